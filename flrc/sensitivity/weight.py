"""Ablation: the weight alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.sensitivity.base import ScoreContext, Sensitivity


@dataclass
class Weight(Sensitivity):
    """``alpha = sum_i W_i^2``.

    Source: FLRC (arXiv 2510.09332), eq. 4 (appendix B).
    """

    name: str = "weight"

    CALIBRATED: ClassVar[bool] = False

    def score(self, context: ScoreContext) -> dict[str, float]:
        """Squared Frobenius norm by target."""
        return {
            t.name: float(t.weight(context.model).double().square().sum()) for t in context.targets
        }
