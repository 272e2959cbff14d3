"""The same rate everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.allocator.base import Allocator

if TYPE_CHECKING:
    from flrc.allocator.budget import Budget
    from flrc.allocator.plan import RankPlan


@dataclass
class Uniform(Allocator):
    """``r = (1 - rate) m n / (m + n)``, rounded down, then filled up to the exact budget.

    Source: SVD-LLM (arXiv 2403.07378), section 3.1. Differs: the published code leaves what
        rounding cuts off
    unused; here it is handed out so that every method is compared at the same realised rate.
    """

    name: str = "uniform"

    def allocate(self, scores: Mapping[str, float], budget: Budget) -> RankPlan:
        """Ranks proportional to each target's break-even rank."""
        from flrc.allocator.budget import solve

        # dense / cost(1) is m n / (m + n) for two factors: the break-even rank as a real number.
        shares = [t.dense / budget.form.cost(1, t) for t in budget.targets]
        return solve(budget, lambda scale: [scale * share for share in shares])
