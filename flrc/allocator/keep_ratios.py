"""From the share of its parameters that each target keeps to ranks (pure)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from flrc.allocator.budget import solve

if TYPE_CHECKING:
    from flrc.allocator.budget import Budget
    from flrc.plans.rank_plan import RankPlan


def real_ranks(budget: Budget, keep: Sequence[float]) -> list[float]:
    """The rank, as a real number, at which each target costs its share of its dense weight.

    The form's cost is inverted, linear between whole ranks: for two factors the answer is
    ``keep m n / (m + n)``. A target that keeps everything gets the rank that stands for dense.

    Args:
        budget: Targets and form.
        keep: By target, parameters kept over parameters of the dense weight, at least 0.
    """
    ranks: list[float] = []
    for target, dense_rank, share in zip(budget.targets, budget.dense_ranks, keep, strict=True):
        if share >= 1:
            ranks.append(float(dense_rank))
            continue
        cost = partial(budget.form.cost, target=target)
        whole = bisect_right(range(1, dense_rank), share * target.dense, key=cost)
        below = cost(whole) if whole else 0
        step = cost(whole + 1) - below
        # The line through both whole ranks. Where costs are proportional to ranks its offset is
        # exactly 0, so that equal fractions of different targets stay equal in floating point.
        ranks.append(share * (target.dense / step) + (whole - below / step))
    return ranks


def solve_keep_ratios(budget: Budget, keep: Sequence[float]) -> RankPlan:
    """Ranks whose costs are in the proportions of these shares, at the exact rate.

    All shares are scaled by one factor (1 if they meet the rate already), so what rounding,
    clipping or unequal shapes shift is made up for by all targets alike.

    Raises:
        UserError: If the bounds cannot meet the rate.
    """
    return solve(budget, lambda scale: real_ranks(budget, [scale * share for share in keep]))


def capped_softmax(logits: Sequence[float], mean: float, ceiling: float) -> list[float]:
    """Numbers in proportion to ``exp(logits)`` of a given mean, none above the ceiling.

    What the ceiling takes from some goes to the others in proportion: ``min(ceiling, c exp(l_i))``
    with the one ``c`` that gives the mean.

    Args:
        logits: Finite.
        mean: Of the answer, at least 0.
        ceiling: Largest number in the answer.

    Raises:
        ValueError: If the mean is above the ceiling.
    """
    if mean > ceiling:
        raise ValueError(f"a mean of {mean} cannot be met under a ceiling of {ceiling}")
    found = [ceiling] * len(logits)
    # The largest are capped first; once the largest that is left fits, so do all after it.
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    left = mean * len(logits)
    for position, first in enumerate(order):
        open_ = order[position:]
        weights = [math.exp(logits[i] - logits[first]) for i in open_]  # the largest is 1
        scale = left / sum(weights)
        if scale <= ceiling:
            for i, weight in zip(open_, weights, strict=True):
                found[i] = scale * weight
            break
        left -= ceiling
    return found
