"""MoDeGPT: sparsity by a softmax of negative importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.allocator.base import Allocator
from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.allocator.budget import Budget
    from flrc.allocator.evidence import Evidence
    from flrc.form.base import Form
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.target import Target


@dataclass
class Softmax(Allocator):
    """``phi = N rate softmax(-s / epsilon)`` is the share of its parameters that a target loses.

    The maximiser of ``sum s (1 - phi) + epsilon * entropy(phi)`` at a mean ``phi`` of the rate.
    The softmax runs over the ``N`` targets; with a score per block (``block_influence``) and
    equally many targets in each, that is the paper's softmax over blocks. ``phi`` above the ceiling
    is cut and the excess goes to the others in proportion; then one factor on all keep shares
    meets the rate in parameters.

    Source: MoDeGPT (arXiv 2408.09632), theorem of its global sparsity allocation.
    Differs: the paper bounds no ``phi``; it can exceed 1. The ceiling of 0.8 with redistribution is
        that of a public re-implementation.

    Attributes:
        epsilon: Temperature, in units of the score; larger is closer to uniform.
        ceiling: Largest share of its parameters that a target loses; the excess goes to the others.
    """

    name: str = "softmax"
    epsilon: float = 0.1
    ceiling: float = 0.8

    SCORED: ClassVar[bool] = True

    def check(self) -> None:
        """Ranges."""
        super().check()
        self.require(self.epsilon > 0, "epsilon", "a number above 0")
        self.require(0 < self.ceiling <= 1, "ceiling", "a share in (0, 1]")

    def check_reachable(self, targets: Sequence[Target], form: Form, rate: float) -> None:
        """The mean of what targets lose cannot exceed the ceiling of each."""
        if rate > self.ceiling:
            raise UserError(
                "the rate is above what any layer may lose",
                given=f"rate={rate:g}, allocator.ceiling={self.ceiling:g}",
                allowed=f"rate up to {self.ceiling:g} with this ceiling",
                fix="raise allocator.ceiling or lower the rate",
            )
        super().check_reachable(targets, form, rate)

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks that keep ``1 - phi``."""
        from flrc.allocator.keep_ratios import capped_softmax, solve_keep_ratios

        self.check_reachable(budget.targets, budget.form, budget.rate)
        logits = [-evidence.scores[target.name] / self.epsilon for target in budget.targets]
        removed = capped_softmax(logits, budget.rate, self.ceiling)
        return solve_keep_ratios(budget, [1 - share for share in removed])
