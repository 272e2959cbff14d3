"""PrunerGPT: keep ratios by the order of the scores, not by their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import solve_keep_ratios
from flrc.plans.rank_plan import RankPlan


@dataclass
class RankOrder(Allocator):
    """``keep = (1 - rate - a) + 2 a id / (N - 1)``, with ``id`` the place of the score, ascending.

    The least sensitive of the ``N`` targets keeps ``1 - rate - a`` of its parameters, the most
    sensitive ``1 - rate + a``, the others are evenly spaced between; equal scores keep the model's
    order. Ratios are clipped to [0, 1]. Their mean meets the rate over targets; one common factor
    then meets it in parameters.

    Source: Shao et al., "One-Shot Sensitivity-Aware Mixed Sparsity Pruning" (arXiv 2310.09499),
        algorithm 1, called PrunerGPT by FLRC.
    Differs: the algorithm as printed calls this value the sparsity. In the published code it is
        the keep ratio, in line with the text (sensitive layers keep more), and so it is here.

    Attributes:
        half_width: ``a``, half the difference between the largest and the smallest keep ratio; 0 is
            uniform.
    """

    name: str = "rank_order"
    half_width: float = 0.1

    SCORED: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks the half width."""
        super().check()
        self.require(0 <= self.half_width <= 0.5, "half_width", "a share in [0, 0.5]")

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks whose keep ratios rise evenly in the order of the scores."""
        scores = [evidence.scores[target.name] for target in budget.targets]
        order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
        middle, a = 1 - budget.rate, self.half_width
        keep = [middle] * len(scores)
        if len(scores) > 1:
            for place, i in enumerate(order):
                keep[i] = min(max(middle - a + 2 * a * place / (len(scores) - 1), 0.0), 1.0)
        return solve_keep_ratios(budget, keep)
