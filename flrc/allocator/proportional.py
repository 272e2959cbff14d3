"""FLRC's allocation: ranks in proportion to the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget, solve
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import real_ranks
from flrc.errors import UserError, choose
from flrc.form.base import Form
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target

REDISTRIBUTIONS = ("solved", "round_robin", "literal")


@dataclass
class Proportional(Allocator):
    """``r = alpha / S * R_budget`` with ``R_budget`` solved for the requested parameter rate.

    Source: FLRC (arXiv 2510.09332), eq. 2 and algorithm 1.
    Differs: the paper gives ``R_budget`` in ranks and does not say what happens to ranks below 1 or
        above full rank; taken literally, the formula misses the rate by far.

    Attributes:
        redistribution: ``solved``: ``R_budget`` is found by bisection, so what clipping removes
            goes to all other targets in proportion. ``round_robin``: the clipped ranks are handed
            out one by one in ascending order of what was removed (Palu, the authors' earlier work),
            ``R_budget`` also found by bisection. ``literal``: a single step with the rank sum of
            the uniform allocation; it misses the requested rate, and the realised rate is recorded.
        floor: Smallest rank as a multiple of the uniform rank; 0 for none.
        ceiling: Largest rank as a multiple of the uniform rank, at least 1; None for none.
    """

    name: str = "proportional"
    redistribution: str = "solved"
    floor: float = 0.0
    ceiling: float | None = None

    SCORED: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks how ranks are redistributed, and their bounds."""
        super().check()
        choose("allocator.redistribution", self.redistribution, REDISTRIBUTIONS)
        self.require(0 <= self.floor <= 1, "floor", "a multiple of the uniform rank in [0, 1]")
        above = self.ceiling is None or self.ceiling >= 1
        self.require(above, "ceiling", "a multiple of the uniform rank, at least 1")

    def budget(
        self, targets: Sequence[Target], form: Form, rate: float, within: RankPlan | None = None
    ) -> Budget:
        """The budget, with ``floor`` and ``ceiling`` as further bounds."""
        budget = super().budget(targets, form, rate, within)
        for i, uniform in enumerate(real_ranks(budget, [1 - rate] * len(targets))):
            if self.ceiling is not None and rate > 0:
                budget.upper[i] = min(budget.upper[i], max(1, int(self.ceiling * uniform)))
            budget.lower[i] = min(max(budget.lower[i], int(self.floor * uniform)), budget.upper[i])
        return budget

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks in proportion to the scores.

        Raises:
            UserError: If a score is negative or not finite, or all are 0.
        """
        alpha = [evidence.scores[target.name] for target in budget.targets]
        bad = [t.name for t in budget.targets if not 0 <= evidence.scores[t.name] < math.inf]
        if bad or sum(alpha) <= 0:
            where = ", ".join(bad[:3])
            raise UserError(
                "the scores cannot be turned into ranks",
                given=f"not finite or negative for {where}" if bad else "all scores are 0",
                allowed="finite scores of at least 0, at least one of them above 0",
                fix="calibrate in float32 (dtype=float32), or check the calibration data",
            )
        total = sum(alpha)
        share = [a / total for a in alpha]
        if self.redistribution == "literal":
            uniform = real_ranks(budget, [1 - budget.rate] * len(budget.targets))
            uniform_sum = sum(int(rank) for rank in uniform)
            ranks = budget.clip([float(round(s * uniform_sum)) for s in share])
            return budget.plan(ranks, exact=False)
        if self.redistribution == "round_robin":
            low, high = budget.lower, budget.upper
            return solve(budget, lambda scale: round_robin(share, scale, low, high))
        return solve(budget, lambda scale: [s * scale for s in share])


def round_robin(
    share: Sequence[float], rank_sum: float, lower: Sequence[int], upper: Sequence[int]
) -> list[float]:
    """Whole ranks with a given sum: proportional, clipped, then the deficit handed out in rounds.

    In each round every target below its upper bound gets one rank, in ascending order of
    (proportional rank minus clipped rank).

    Source: the Fisher allocator of Palu (github.com/shadowpa0327/Palu).
    """
    real = [s * rank_sum for s in share]
    ranks = [int(min(max(r, lo), up)) for r, lo, up in zip(real, lower, upper, strict=True)]
    deficit = int(rank_sum) - sum(ranks)
    order = sorted(range(len(ranks)), key=lambda i: (real[i] - ranks[i], i))
    while deficit > 0:
        open_ = [i for i in order if ranks[i] < upper[i]]
        if not open_:
            break
        # All full rounds until the first target reaches its bound, at once.
        rounds = min(deficit // len(open_), min(upper[i] - ranks[i] for i in open_))
        if rounds == 0:
            rounds, open_ = 1, open_[:deficit]
        for i in open_:
            ranks[i] += rounds
        deficit -= rounds * len(open_)
    return [float(rank) for rank in ranks]
