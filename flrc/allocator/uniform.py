"""The same rate everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.allocator.base import Allocator

if TYPE_CHECKING:
    from flrc.allocator.budget import Budget
    from flrc.allocator.evidence import Evidence
    from flrc.plans.rank_plan import RankPlan


@dataclass
class Uniform(Allocator):
    """Every target keeps the same share of its parameters, as near as whole ranks come.

    With two factors that is ``r = (1 - rate) m n / (m + n)``, rounded down, then filled up to the
    exact budget; with any other form the rank that costs the same share.

    Source: SVD-LLM (arXiv 2403.07378), section 3.1.
    Differs: the published code leaves what rounding cuts off unused; here it is handed out, so that
        every method is compared at the same realised rate.
    """

    name: str = "uniform"

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks of equal keep shares."""
        from flrc.allocator.keep_ratios import solve_keep_ratios

        return solve_keep_ratios(budget, [1.0] * len(budget.targets))
