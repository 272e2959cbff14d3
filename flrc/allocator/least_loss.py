"""The plan with the least total loss under a parameter budget, by one Lagrange multiplier."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch
from torch import Tensor

from flrc.allocator.budget import Budget
from flrc.plans.rank_plan import RankPlan


class _Curve:
    """Loss and cost of one target's allowed ranks, ascending; the last may be the dense layer."""

    def __init__(self, budget: Budget, index: int, loss: Tensor, choices: Sequence[int] | None):
        low, high = budget.lower[index], budget.upper[index]
        dense = budget.dense_ranks[index]
        allowed = range(low, high + 1) if choices is None else choices
        ranks = sorted({r for r in allowed if low <= r < dense and r <= high})
        if high >= dense:
            ranks.append(dense)
        loss = loss.double()
        self.ranks = ranks = ranks or [high]  # no choice within the bounds: take the upper one
        self.cost = torch.tensor([budget.cost(index, r) for r in ranks], dtype=torch.float64)
        self.loss = torch.tensor([0.0 if r >= dense else float(loss[r]) for r in ranks]).double()

    def best(self, price: float) -> int:
        """Position of the least ``loss + price * cost``; of equal ones the cheaper."""
        return int((self.loss + price * self.cost).argmin())


def least_loss_plan(
    budget: Budget,
    losses: Sequence[Tensor],
    choices: Sequence[Sequence[int]] | None = None,
) -> RankPlan:
    """The ranks with the least total loss that fit the budget.

    At a price ``lambda`` per parameter every target takes the rank that minimises
    ``loss(r) + lambda cost(r)``, independently of all others; staying dense is one more choice,
    with the dense cost and loss 0. The total cost falls as the price rises, so bisection finds the
    price that meets the budget. Whatever the cost function, the result is optimal for the
    parameters it uses (Everett's theorem). What a jump between two choices leaves unused is then
    spent on single steps with the greatest gain per parameter.

    Losses ``(full rank + 1,)`` are those at rank 0, 1, ... by target, in the order of the budget;
    choices are the allowed ranks by target, None for all. The dense layer always is allowed.

    Raises:
        UserError: If the bounds cannot meet the rate.

    Source: H. Everett, "Generalized Lagrange multiplier method" (Operations Research 11, 1963).
    """
    budget.check_reachable()
    allowed = [None] * len(losses) if choices is None else choices
    curves = [_Curve(budget, i, losses[i], allowed[i]) for i in range(len(losses))]

    def best_at(price: float) -> list[int]:
        return [curve.best(price) for curve in curves]

    def used(chosen: Sequence[int]) -> float:
        return sum(float(c.cost[k]) for c, k in zip(curves, chosen, strict=True))

    chosen = best_at(0.0)
    if used(chosen) > budget.parameters:
        low, high = 0.0, _ceiling(curves)
        for _ in range(200):
            middle = (low * high) ** 0.5 if low > 0 else high * 1e-6
            if not low < middle < high:
                break
            fits = used(best_at(middle)) <= budget.parameters
            low, high = (low, middle) if fits else (middle, high)
        chosen = best_at(high)
    _spend(curves, chosen, budget.parameters - used(chosen))
    return budget.plan([curve.ranks[k] for curve, k in zip(curves, chosen, strict=True)])


def _ceiling(curves: Sequence[_Curve]) -> float:
    """A price at which every target takes its cheapest choice."""
    steepest = 0.0
    for curve in curves:
        if len(curve.ranks) > 1:
            cost = (curve.cost - curve.cost[0])[1:]
            gain = (curve.loss[0] - curve.loss)[1:]
            steepest = max(steepest, float((gain / cost).max()))
    return max(steepest * (1 + 1e-9), 1e-300)


def _spend(curves: Sequence[_Curve], chosen: list[int], left: float) -> None:
    """Spend ``left`` parameters on single steps, greatest gain per parameter first."""

    def step(i: int) -> tuple[float, int, float] | None:
        curve, k = curves[i], chosen[i]
        if k + 1 >= len(curve.ranks):
            return None
        cost = float(curve.cost[k + 1] - curve.cost[k])
        return (-float(curve.loss[k] - curve.loss[k + 1]) / cost, i, cost)

    steps = [s for i in range(len(curves)) if (s := step(i)) is not None]
    heapq.heapify(steps)
    while steps:
        _, i, cost = heapq.heappop(steps)
        if cost <= left:
            chosen[i] += 1
            left -= cost
            if (following := step(i)) is not None:
                heapq.heappush(steps, following)
