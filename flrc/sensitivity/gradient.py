"""Ablation: only the gradient, without the weight."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.calibration.dense_model import DenseModel
from flrc.sensitivity.base import Gradients
from flrc.sensitivity.gradient_score import GradientScore


@dataclass
class Gradient(GradientScore):
    """``alpha = sum_i G_i^2``.

    Source: FLRC (arXiv 2510.09332), eq. 5 (appendix B).
    """

    name: str = "gradient"

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Squared gradient norm by target name."""
        return {n: g.gradient for n, g in gradients(self.reduction).items()}
