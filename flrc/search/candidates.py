"""Schedules that compete, and the rates at which each of them meets the requested average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flrc.plans.phase import Phase

DECIMALS = 3
"""Rates of phases are rounded to a tenth of a point, so that a reply more or less changes none."""


@dataclass(frozen=True)
class Candidate:
    """A schedule of two phases, but for its level; or the constant one.

    Attributes:
        switch: Forward steps of the first phase, the prefill included; 0 for the constant schedule.
        drop: What the second phase removes more than the first, as a share of the parameters;
            negative if it removes less.
    """

    switch: int = 0
    drop: float = 0.0

    @property
    def constant(self) -> bool:
        """Whether the rate never changes."""
        return self.drop == 0

    def share(self, lengths: Sequence[int]) -> float:
        """Share of all forward steps that fall into the second phase, of replies of these lengths.

        Args:
            lengths: Forward steps of each reply: its tokens, the end-of-sequence token included.
        """
        return sum(max(0, length - self.switch) for length in lengths) / sum(lengths)

    def phases(self, rate: float, lengths: Sequence[int]) -> list[Phase] | None:
        """The phases whose average over all forward steps of these replies is ``rate``.

        With ``w`` the share of the second phase: ``(1 - w) r + w (r + drop) = rate``.

        Returns:
            The phases; None if one of them would leave (0, 1), the dense model included.

        Source: FLRC (arXiv 2510.09332), section 3.2 and appendix C: the average of a schedule is
            over every token that is used; it does not say of which lengths.
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
    """All combinations, the constant schedule first.

    Args:
        switches: Steps of the first phase.
        drops: Sizes of the change, above 0.
        direction: 1 if the second phase removes more, -1 if less.
        with_constant: Whether the constant schedule competes.
    """
    changing = [Candidate(switch, direction * drop) for switch in switches for drop in drops]
    return [Candidate(), *changing] if with_constant else changing


def rounds(samples: int, number: int) -> list[int]:
    """Items seen after each round of a successive halving: each twice those before, at last all."""
    counts = [-(-samples // 2 ** (number - 1 - i)) for i in range(number)]
    return list(dict.fromkeys(counts))
