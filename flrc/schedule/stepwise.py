"""Schedules whose phases are given as shares of the steps and offsets from the rate."""

from __future__ import annotations

from dataclasses import dataclass, field

from flrc.errors import UserError
from flrc.plans.phase import Phase
from flrc.schedule.base import Schedule


@dataclass
class Stepwise(Schedule):
    """Phases given as shares of the forward steps and offsets from the requested rate.

    The offsets average to zero over the shares, so the nominal average rate per forward step is the
    requested one; the realised average depends on the lengths of the replies and is measured.

    Attributes:
        shares: Share of the nominal forward steps (``max_new_tokens``) of each phase; they sum to
            1.
        offsets: Added to the requested rate in each phase; their average over the shares is 0. They
            never decrease in ``progressive``, and never increase in ``increasing``.
    """

    shares: list[float] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)

    def check(self) -> None:
        """Checks that shares and offsets match, and that offsets rise or fall as the class says."""
        same = len(self.shares) == len(self.offsets) > 0
        self.require(same, "offsets", f"one offset for each of the {len(self.shares)} shares")
        whole = all(s > 0 for s in self.shares) and abs(sum(self.shares) - 1) < 1e-9
        self.require(whole, "shares", "numbers above 0 that sum to 1")
        mean = sum(s * o for s, o in zip(self.shares, self.offsets, strict=True))
        zero = "offsets whose average over the shares is 0, so that the average rate is the"
        self.require(abs(mean) < 1e-9, "offsets", f"{zero} requested one (it is {mean:+.6g})")
        falling = self.DIRECTION <= 0
        allowed = f"non-{'increasing' if falling else 'decreasing'} numbers"
        self.require(self.offsets == sorted(self.offsets, reverse=falling), "offsets", allowed)

    def phases(self, rate: float) -> list[Phase]:
        """One phase per share, at ``rate + offset``."""
        phases, begin = [], 0.0
        for share, offset in zip(self.shares, self.offsets, strict=True):
            phase_rate = round(rate + offset, 12)
            if not 0 <= phase_rate < 1:
                raise UserError(
                    f"schedule {self.name}: a phase's rate leaves [0, 1)",
                    given=f"rate={rate:g} with offset {offset:+g} gives {phase_rate:g}",
                    allowed="rate + offset in [0, 1) for every phase",
                    fix=f"smaller offsets, such as schedule.offsets=[{-rate / 2:g},{rate / 2:g}]",
                )
            phases.append(Phase(begin, phase_rate))
            begin += share
        return phases
