"""MoDeGPT: sparsity as a softmax of negative importance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import capped_softmax, solve_keep_ratios
from flrc.errors import UserError
from flrc.plans.rank_plan import RankPlan


@dataclass
class Softmax(Allocator):
    """``phi = N rate softmax(-s / epsilon)`` is the share of its parameters that a target loses.

    It maximises ``sum s (1 - phi) + epsilon * entropy(phi)`` under the constraint that the mean
    ``phi`` is the rate. The softmax runs over the ``N`` targets; with one score per block
    (``block_influence``) and equally many targets in each it equals the paper's softmax over
    blocks. ``phi`` is capped at the ceiling, with the excess redistributed in proportion; then one
    common factor on all keep ratios meets the rate in parameters.

    Source: MoDeGPT (arXiv 2408.09632), theorem of its global sparsity allocation.
    Differs: in the paper ``phi`` is unbounded and can exceed 1. The ceiling of 0.8 with
        redistribution follows a public re-implementation.

    Attributes:
        epsilon: Temperature, in units of the score; larger is closer to uniform.
        ceiling: Largest share of its parameters that a target loses; the excess goes to the others.
    """

    name: str = "softmax"
    epsilon: float = 0.1
    ceiling: float = 0.8

    SCORED: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks the temperature and the ceiling."""
        super().check()
        self.require(self.epsilon > 0, "epsilon", "a number above 0")
        self.require(0 < self.ceiling <= 1, "ceiling", "a share in (0, 1]")

    def check_budget(self, budget: Budget) -> None:
        """Also checks that the rate, the mean of what targets lose, is not above the ceiling."""
        if budget.rate > self.ceiling:
            raise UserError(
                "the rate is above what any layer may lose",
                given=f"rate={budget.rate:g}, allocator.ceiling={self.ceiling:g}",
                allowed=f"rate up to {self.ceiling:g} with this ceiling",
                fix="raise allocator.ceiling or lower the rate",
            )
        super().check_budget(budget)

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks that keep ``1 - phi`` of each target's parameters."""
        self.check_budget(budget)
        logits = [-evidence.scores[target.name] / self.epsilon for target in budget.targets]
        removed = capped_softmax(logits, budget.rate, self.ceiling)
        return solve_keep_ratios(budget, [1 - share for share in removed])
