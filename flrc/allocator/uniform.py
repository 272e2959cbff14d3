"""The same keep ratio everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import solve_keep_ratios
from flrc.plans.rank_plan import RankPlan


@dataclass
class Uniform(Allocator):
    """Every target keeps the same share of its parameters, up to rounding to whole ranks.

    For two factors ``r = (1 - rate) m n / (m + n)``, rounded down, then filled up to the exact
    budget; for any other form the rank that costs the same share.

    Source: SVD-LLM (arXiv 2403.07378), section 3.1.
    Differs: the published code does not use what rounding leaves over; here it is handed out, so
        that all methods are compared at the same realised rate.
    """

    name: str = "uniform"

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks with equal keep ratios."""
        return solve_keep_ratios(budget, [1.0] * len(budget.targets))
