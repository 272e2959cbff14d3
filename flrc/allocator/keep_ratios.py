"""From keep ratios, the share of its parameters that each target keeps, to ranks (pure maths)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial

from flrc.allocator.budget import Budget, solve
from flrc.plans.rank_plan import RankPlan


def real_ranks(budget: Budget, keep: Sequence[float]) -> list[float]:
    """The real-valued rank at which each target costs its keep ratio times its dense weight.

    Inverts the form's cost, linearly between whole ranks: ``keep m n / (m + n)`` for two factors. A
    target that keeps everything gets its ``dense_rank``.
    """
    ranks: list[float] = []
    for target, dense_rank, ratio in zip(budget.targets, budget.dense_ranks, keep, strict=True):
        if ratio >= 1:
            ranks.append(float(dense_rank))
            continue
        cost = partial(budget.form.cost, target=target)
        whole = bisect_right(range(1, dense_rank), ratio * target.dense, key=cost)
        below = cost(whole) if whole else 0
        step = cost(whole + 1) - below
        # The line through both whole ranks. Where cost is proportional to rank its offset is
        # exactly 0, so that equal fractions of different targets stay equal in floating point.
        ranks.append(ratio * (target.dense / step) + (whole - below / step))
    return ranks


def solve_keep_ratios(budget: Budget, keep: Sequence[float]) -> RankPlan:
    """Ranks whose costs are in proportion to these ratios, at the exact rate.

    All ratios are scaled by one common factor (1 if they meet the rate already), so all targets
    alike compensate for rounding, clipping and unequal shapes.

    Raises:
        UserError: If the bounds cannot meet the rate.
    """
    return solve(budget, lambda scale: real_ranks(budget, [scale * ratio for ratio in keep]))


def capped_softmax(logits: Sequence[float], mean: float, ceiling: float) -> list[float]:
    """``min(ceiling, c exp(logit))`` with the one ``c`` that gives the mean.

    What the ceiling takes from some is redistributed to the others in proportion.

    Raises:
        ValueError: If the mean is above the ceiling.
    """
    if mean > ceiling:
        raise ValueError(f"a mean of {mean} cannot be met under a ceiling of {ceiling}")
    result = [ceiling] * len(logits)
    # In descending order: once the largest of the rest is below the ceiling, all of them are.
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    left = mean * len(logits)
    for position, first in enumerate(order):
        open_ = order[position:]
        weights = [math.exp(logits[i] - logits[first]) for i in open_]  # the largest is 1
        scale = left / sum(weights)
        if scale <= ceiling:
            for i, weight in zip(open_, weights, strict=True):
                result[i] = scale * weight
            break
        left -= ceiling
    return result
