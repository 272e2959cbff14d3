"""Candidate schedules, and the rates at which each of them meets the requested average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flrc.plans.phase import Phase

DECIMALS = 3
"""Rates are rounded to 0.1 percentage points, so that single replies do not change them."""


@dataclass(frozen=True)
class Candidate:
    """A schedule of two phases whose rates are not fixed yet, or the constant schedule.

    Attributes:
        switch: Forward steps of the first phase, the prefill included; 0 for the constant schedule.
        drop: How much more the second phase removes, as a share of the parameters; negative if it
            removes less.
    """

    switch: int = 0
    drop: float = 0.0

    @property
    def constant(self) -> bool:
        """Whether the rate never changes."""
        return self.drop == 0

    def share(self, lengths: Sequence[int]) -> float:
        """``w``, the share of forward steps in the second phase, for replies of these lengths.

        A reply's forward steps are its tokens, the end-of-sequence token included.
        """
        return sum(max(0, length - self.switch) for length in lengths) / sum(lengths)

    def phases(self, rate: float, lengths: Sequence[int]) -> list[Phase] | None:
        """The phases whose average rate over all forward steps of these replies is ``rate``.

        With ``w`` the share of the second phase: ``(1 - w) r + w (r + drop) = rate``. None if one
        of the rates is outside of (0, 1).

        Source: FLRC (arXiv 2510.09332), section 3.2 and appendix C: the average of a schedule is
            over all tokens; the paper does not state the lengths.
        """
        if self.constant:
            return [Phase(0.0, rate)]
        first = round(rate - self.drop * self.share(lengths), DECIMALS)
        second = round(first + self.drop, DECIMALS)
        if not (0 < first < 1 and 0 < second < 1):
            return None
        return [Phase(0.0, first), Phase(0.0, second, step=self.switch)]


def grid(
    switches: Sequence[int], drops: Sequence[float], direction: int, with_constant: bool
) -> list[Candidate]:
    """All combinations, the constant schedule first; direction 1 means that the rate rises."""
    changing = [Candidate(switch, direction * drop) for switch in switches for drop in drops]
    return [Candidate(), *changing] if with_constant else changing


def rounds(samples: int, number: int) -> list[int]:
    """Items seen after each round: twice as many each time, and all of them in the last."""
    counts = [-(-samples // 2 ** (number - 1 - i)) for i in range(number)]
    return list(dict.fromkeys(counts))
