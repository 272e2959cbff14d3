"""The budget solver of all allocators: real-valued ranks in, whole ranks at the rate out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flrc.errors import UserError
from flrc.form.base import Form
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target

TOLERANCE = 1e-4
"""Largest difference of realised and requested rate, unless a single rank is a larger step."""


@dataclass(frozen=True)
class Budget:
    """The constraint on the ranks: ``sum of cost(rank) <= (1 - rate) * dense``, within bounds.

    A layer at or above its break-even rank stays dense. The solver represents this by the form's
    ``dense_rank``, the largest rank that it may choose.

    Attributes:
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

        ``within`` is a plan at a lower rate whose ranks are upper bounds (an earlier phase of a
        schedule).
        """
        dense_ranks = [form.dense_rank(target) for target in targets]
        bounds = [None if within is None else within.ranks[target.name] for target in targets]
        upper = [d if b is None else min(d, b) for d, b in zip(dense_ranks, bounds, strict=True)]
        lower = [min(minimum_rank, u) for u in upper]
        return cls(targets, form, rate, lower, upper, dense_ranks)

    @property
    def dense(self) -> int:
        """Parameters of all dense targets."""
        return sum(target.dense for target in self.targets)

    @property
    def parameters(self) -> int:
        """Parameters that may be used: ``(1 - rate) * dense``, rounded down up to float error."""
        return math.floor((1 - self.rate) * self.dense * (1 + 1e-14) + 1e-6)

    def cost(self, index: int, rank: int) -> int:
        """Parameters of one target at a rank; those of the dense weight from break-even on."""
        target = self.targets[index]
        if rank >= self.dense_ranks[index]:
            return target.dense
        return self.form.cost(rank, target)

    def step(self, index: int, rank: int) -> int:
        """Parameters that one more rank costs a target."""
        return self.cost(index, rank + 1) - self.cost(index, rank)

    def total(self, ranks: Sequence[int]) -> int:
        """Parameters of all targets."""
        return sum(self.cost(index, rank) for index, rank in enumerate(ranks))

    def rate_of(self, parameters: int) -> float:
        """The rate at which this many parameters are used, rounded down to four digits."""
        return math.floor(1e4 * (1 - parameters / self.dense)) / 1e4

    def clip(self, ranks: Sequence[float]) -> list[int]:
        """Ranks rounded down and clipped to the bounds."""
        return [
            int(min(max(rank, low), high))
            for rank, low, high in zip(ranks, self.lower, self.upper, strict=True)
        ]

    def plan(self, ranks: Sequence[int], *, exact: bool = True) -> RankPlan:
        """The plan with these ranks; from break-even on a target is dense."""
        named = {
            target.name: None if rank >= dense else rank
            for target, rank, dense in zip(self.targets, ranks, self.dense_ranks, strict=True)
        }
        return RankPlan.of(self.rate, named, self.targets, self.form, exact)

    def require(self, smallest: int, problem: str, given: str, fix: str) -> None:
        """Raise UserError if ``smallest``, the fewest parameters possible, exceeds the budget."""
        if smallest > self.parameters:
            raise UserError(
                problem,
                given=f"rate={self.rate:g}, {given}",
                allowed=f"rate up to {self.rate_of(smallest):.4f}",
                fix=fix,
            )

    def check_reachable(self) -> None:
        """Raise UserError if the smallest ranks exceed the budget or the largest fall short."""
        self.require(
            self.total(self.lower),
            "the rate cannot be reached with the given minimum rank",
            f"minimum rank {max(self.lower)}",
            "lower allocator.minimum_rank or the rate",
        )
        largest = self.total(self.upper)
        if largest < self.parameters - TOLERANCE * self.dense:
            raise UserError(
                "the rate cannot be reached with the given largest ranks",
                given=f"rate={self.rate:g}",
                allowed=f"a rate of at least {1 - largest / self.dense:.4f}",
                fix="raise allocator.ceiling or the rate",
            )


def solve(budget: Budget, ranks_at: Callable[[float], Sequence[float]]) -> RankPlan:
    """Bisects the scale of a family of ranks to the budget, then hands out the remainder.

    ``ranks_at(R)`` gives a real rank per target, non-decreasing in ``R`` (``alpha / S * R`` in eq.
    2 of FLRC). ``R`` is bisected until the rounded, clipped ranks just fit, so what clipping takes
    from one target flows to all others. The remaining parameters are handed out one rank at a time,
    largest rounded-off fraction first (ties: model order), until no single rank fits.

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

    real = ranks_at(low)
    ranks = budget.clip(real)
    order = sorted(range(len(ranks)), key=lambda i: (ranks[i] - real[i], i))
    left = budget.parameters - budget.total(ranks)
    handed_out = True
    while handed_out:
        handed_out = False
        for i in order:
            step = budget.step(i, ranks[i])
            if ranks[i] < budget.upper[i] and step <= left:
                ranks[i] += 1
                left -= step
                handed_out = True

    plan = budget.plan(ranks)
    # The smallest step that the bounds would still have allowed.
    steps = [budget.step(i, rank) for i, rank in enumerate(ranks) if rank < budget.upper[i]]
    missed = abs(plan.realised - plan.requested)
    if missed > max(TOLERANCE, min(steps, default=0) / budget.dense):
        raise AssertionError(
            f"budget solver missed the rate: requested {plan.requested}, realised {plan.realised}"
        )
    return plan
