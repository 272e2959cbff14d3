"""ATP: the keep ratio falls linearly with depth, the slope is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.allocator.base import ProbingAllocator
from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.allocator.budget import Budget
    from flrc.allocator.evidence import Evidence
    from flrc.plans.rank_plan import RankPlan


@dataclass
class DepthLinear(ProbingAllocator):
    """``keep_b = rho + beta (1/2 - b / (L - 1))``: early blocks keep more, by a measured slope.

    ``rho`` is the share of parameters that is kept, ``b`` the block of ``L``. A grid of slopes from
    0 (uniform) to ``2 min(rho, 1 - rho)``, where the first block is dense or the last one empty, is
    measured; kept is the plan of least perplexity on the calibration sequences, the flatter of
    equals.

    Source: ATP (Huang et al., ICML 2025), as in the code of LEMS.
    Differs: one factor on all keep ratios meets the rate exactly, and no rank falls below
        ``minimum_rank``.

    Attributes:
        slopes: Number of slopes that are measured, from 0 (uniform) to ``2 min(rate, 1 - rate)``.
    """

    name: str = "depth_linear"
    slopes: int = 11

    def check(self) -> None:
        """Ranges."""
        super().check()
        self.require(self.slopes >= 2, "slopes", "a whole number from 2 on")

    def plan(self, budget: Budget, slope: float) -> RankPlan:
        """The plan of one slope beta."""
        from flrc.allocator.keep_ratios import solve_keep_ratios

        last = max(target.block for target in budget.targets)
        depth = [target.block / last if last > 0 else 0.5 for target in budget.targets]
        # Rounding must not turn the empty last block's 0 into a negative number.
        return solve_keep_ratios(
            budget, [max(0.0, 1 - budget.rate + slope * (0.5 - d)) for d in depth]
        )

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The best slope's plan."""
        from flrc.core.progress import progress

        steepest = 2 * min(budget.rate, 1 - budget.rate)
        plans = [self.plan(budget, steepest * i / (self.slopes - 1)) for i in range(self.slopes)]
        probe = evidence.probe(self.samples)
        probe.announce(self.name, plans=self.slopes)
        losses = [
            probe.plan(plan.ranks).loss
            for plan in progress(plans, "measuring slopes over depth", len(plans))
        ]
        best = min(losses)
        if best == float("inf"):
            raise UserError(
                "the cut model gave no finite loss with any slope",
                given=f"rate={budget.rate:g}",
                allowed="a rate at which the model still gives finite numbers",
                fix="a lower rate, or dtype=float32",
            )
        return plans[losses.index(best)]
