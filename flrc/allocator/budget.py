"""The one budget solver: from a growing family of ranks to ranks that meet the rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.errors import UserError
from flrc.plans.rank_plan import RankPlan

if TYPE_CHECKING:
    from flrc.form.base import Form
    from flrc.plans.target import Target

TOLERANCE = 1e-4
"""Largest distance of realised and requested rate, where a single rank is a smaller step."""


@dataclass(frozen=True)
class Budget:
    """What the ranks must meet: ``sum of cost(rank) <= (1 - rate) * dense``, within bounds.

    Ranks at or above break-even count as dense: inside the solver a rank runs from its lower to its
    upper bound, and the form's ``dense_rank`` stands for the dense layer.

    Attributes:
        targets: The layers.
        form: What a rank costs.
        rate: Requested rate, in [0, 1).
        lower: Smallest rank per target.
        upper: Largest rank per target, at most ``dense_rank``.
        dense_ranks: The form's ``dense_rank`` per target.
        phase: Whether this is a phase of a schedule, not the constant plan.
    """

    targets: Sequence[Target]
    form: Form
    rate: float
    lower: list[int]
    upper: list[int]
    dense_ranks: list[int]
    phase: bool = False

    @classmethod
    def of(
        cls,
        targets: Sequence[Target],
        form: Form,
        rate: float,
        *,
        minimum_rank: int = 1,
        within: RankPlan | None = None,
    ) -> Budget:
        """A budget over all targets.

        Args:
            targets: The layers.
            form: What a rank costs.
            rate: Requested rate.
            minimum_rank: Smallest rank of any target (cut to its break-even rank).
            within: Plan at a lower rate that the answer must nest in (earlier phase of a schedule).
        """
        dense_ranks = [form.dense_rank(target) for target in targets]
        upper = list(dense_ranks)
        if within is not None:
            bounds = [within.ranks[target.name] for target in targets]
            upper = [
                d if b is None else min(d, b) for d, b in zip(dense_ranks, bounds, strict=True)
            ]
        lower = [min(minimum_rank, u) for u in upper]
        return cls(targets, form, rate, lower, upper, dense_ranks)

    @property
    def dense(self) -> int:
        """Parameters of all dense targets."""
        return sum(target.dense for target in self.targets)

    @property
    def parameters(self) -> int:
        """Parameters that may be used: whole ones, ``(1 - rate) * dense`` without its rounding."""
        return math.floor((1 - self.rate) * self.dense * (1 + 1e-14) + 1e-6)

    def cost(self, index: int, rank: int) -> int:
        """Parameters of one target at a rank; the dense weight's from break-even on."""
        target = self.targets[index]
        if rank >= self.dense_ranks[index]:
            return target.dense
        return self.form.cost(rank, target)

    def total(self, ranks: Sequence[int]) -> int:
        """Parameters of all targets."""
        return sum(self.cost(index, rank) for index, rank in enumerate(ranks))

    def rate_of(self, parameters: int) -> float:
        """The rate at which so many parameters are used, to four digits and never rounded up."""
        return math.floor(1e4 * (1 - parameters / self.dense)) / 1e4

    def clip(self, ranks: Sequence[float]) -> list[int]:
        """Whole ranks (rounded down) within the bounds."""
        return [
            int(min(max(rank, low), high))
            for rank, low, high in zip(ranks, self.lower, self.upper, strict=True)
        ]

    def plan(self, ranks: Sequence[int], *, exact: bool = True) -> RankPlan:
        """The plan of these ranks."""
        named = {
            target.name: None if rank >= dense else rank
            for target, rank, dense in zip(self.targets, ranks, self.dense_ranks, strict=True)
        }
        return RankPlan.of(self.rate, named, self.targets, self.form, exact)

    def check_reachable(self) -> None:
        """Raise UserError if even the smallest or the largest allowed ranks miss the rate."""
        smallest, largest = self.total(self.lower), self.total(self.upper)
        if smallest > self.parameters:
            raise UserError(
                "the rate cannot be reached with the given minimum rank",
                given=f"rate={self.rate:g}, minimum rank {max(self.lower)}",
                allowed=f"rate up to {self.rate_of(smallest):.4f} with this minimum rank",
                fix="lower allocator.minimum_rank or the rate",
            )
        if largest < self.parameters - TOLERANCE * self.dense:
            raise UserError(
                "the rate cannot be reached with the given largest ranks",
                given=f"rate={self.rate:g}",
                allowed=f"rate from {1 - largest / self.dense:.4f} on",
                fix="raise allocator.ceiling or the rate",
            )


def solve(budget: Budget, ranks_at: Callable[[float], Sequence[float]]) -> RankPlan:
    """The largest member of a growing family of ranks that fits the budget, filled up rank by rank.

    ``ranks_at(R)`` gives a real rank per target, non-decreasing in ``R`` (for the paper's eq. 2
    ``alpha / S * R``). ``R`` is bisected until the whole ranks, cut to their bounds, fit; what
    clipping takes from one target thereby flows to all others. What is left is handed out one rank
    at a time, largest cut-off fraction first (ties: model order), until no single rank fits.

    Raises:
        UserError: If the bounds cannot meet the rate.
    """
    budget.check_reachable()

    def total(scale: float) -> int:
        return budget.total(budget.clip(ranks_at(scale)))

    low, high = 0.0, 1.0
    top = budget.total(budget.upper)
    while total(high) <= budget.parameters and total(high) < top and high < 1e300:
        low, high = high, high * 2
    if total(high) <= budget.parameters:
        low = high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if total(middle) <= budget.parameters else (low, middle)

    wished = ranks_at(low)
    ranks = budget.clip(wished)
    order = sorted(range(len(ranks)), key=lambda i: (ranks[i] - wished[i], i))
    left = budget.parameters - budget.total(ranks)
    handed_out = True
    while handed_out:
        handed_out = False
        for i in order:
            step = budget.cost(i, ranks[i] + 1) - budget.cost(i, ranks[i])
            if ranks[i] < budget.upper[i] and step <= left:
                ranks[i] += 1
                left -= step
                handed_out = True

    plan = budget.plan(ranks)
    # Only a rank that some bound still allows is a step that could have been made.
    steps = [
        budget.cost(i, rank + 1) - budget.cost(i, rank)
        for i, rank in enumerate(ranks)
        if rank < budget.upper[i]
    ]
    missed = abs(plan.realised - plan.requested)
    if missed > max(TOLERANCE, min(steps, default=0) / budget.dense):
        raise AssertionError(
            f"budget solver missed the rate: requested {plan.requested}, realised {plan.realised}"
        )
    return plan
