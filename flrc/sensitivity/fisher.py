"""FLRC's score: squared product of gradient and weight."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.calibration.dense_model import DenseModel
from flrc.sensitivity.base import Gradients
from flrc.sensitivity.gradient_score import GradientScore


@dataclass
class Fisher(GradientScore):
    """``alpha = sum_i (G_i W_i)^2``.

    Source: FLRC (arXiv 2510.09332), eq. 1.
    Differs: by default the gradient is squared per sequence, which gives the empirical Fisher
        information. Algorithm 1, read literally, squares the gradient of the whole calibration set.
    """

    name: str = "fisher"

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Importance by target name."""
        return {n: g.importance for n, g in gradients(self.reduction).items()}
