"""The least total truncation loss over all layers at once, from the spectra (ours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.plans.rank_plan import RankPlan


@dataclass
class Spectrum(Allocator):
    """Minimises the sum over all targets of the dropped squared singular values.

    In the metric of ``kfac`` that sum is the second-order estimate of the whole model's loss, so
    layers are comparable without scores, weights or probes. A target may stay dense, at its full
    cost and without loss.

    Attributes:
        multiple: Ranks are multiples of this (8 suits GPU kernels); 1 for any rank.
    """

    name: str = "spectrum"
    multiple: int = 1

    SPECTRAL: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks the multiple."""
        super().check()
        self.require(self.multiple >= 1, "multiple", "an integer of at least 1")

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The ranks with the least total loss."""
        from flrc.allocator.least_loss import least_loss_plan
        from flrc.decomposition.factors import truncation_losses

        losses = [truncation_losses(evidence.spectrum(target.name)) for target in budget.targets]
        multiples = [range(self.multiple, len(loss), self.multiple) for loss in losses]
        return least_loss_plan(budget, losses, None if self.multiple == 1 else multiples)
