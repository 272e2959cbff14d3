"""ATP: the keep ratio falls linearly with depth; the slope is chosen by measuring."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.allocator.base import ProbingAllocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import solve_keep_ratios
from flrc.plans.rank_plan import RankPlan


@dataclass
class DepthLinear(ProbingAllocator):
    """``keep_b = rho + beta (1/2 - b / (L - 1))``: early blocks keep more, by a measured slope.

    ``rho`` is the share of parameters that is kept, ``b`` the block of ``L``. The slopes ``beta``
    form a grid from 0 (uniform) to ``2 min(rho, 1 - rho)``, where the first block is dense or the
    last one empty. The plan with the lowest perplexity on the calibration sequences is chosen; of
    equal ones the flattest.

    Source: ATP (Huang et al., ICML 2025), as in the code of LEMS.
    Differs: one common factor on all keep ratios meets the rate exactly, and no rank falls below
        ``minimum_rank``.

    Attributes:
        slopes: Number of slopes that are measured, from 0 (uniform) to ``2 min(rate, 1 - rate)``.
    """

    name: str = "depth_linear"
    slopes: int = 11

    def check(self) -> None:
        """Also checks the size of the grid."""
        super().check()
        self.require(self.slopes >= 2, "slopes", "an integer of at least 2")

    def plan(self, budget: Budget, slope: float) -> RankPlan:
        """The plan for one slope ``beta``."""
        last = max(target.block for target in budget.targets)
        depth = [target.block / last if last > 0 else 0.5 for target in budget.targets]
        # In the steepest plan the last block's ratio is 0; rounding must not make it negative.
        keep = [max(0.0, 1 - budget.rate + slope * (0.5 - d)) for d in depth]
        return solve_keep_ratios(budget, keep)

    def measurements(self) -> tuple[int, int]:
        """One plan for each slope."""
        return 0, self.slopes

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The plan of the slope with the lowest measured loss."""
        from flrc.allocator.divergence import no_finite_loss
        from flrc.core.progress import progress

        steepest = 2 * min(budget.rate, 1 - budget.rate)
        plans = [self.plan(budget, steepest * i / (self.slopes - 1)) for i in range(self.slopes)]
        probe = evidence.probe(self.samples)
        probe.announce(self.name, plans=self.slopes)
        doing = "measuring slopes over depth"
        losses = [probe.plan(plan.ranks).loss for plan in progress(plans, doing, unit="plan")]
        best = min(losses)
        if best == float("inf"):
            raise no_finite_loss("with any slope", f"rate={budget.rate:g}")
        return plans[losses.index(best)]
