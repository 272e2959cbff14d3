"""Ablation: only the weight, without the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.calibration.dense_model import DenseModel
from flrc.sensitivity.base import Gradients, Sensitivity


@dataclass
class Weight(Sensitivity):
    """``alpha = sum_i W_i^2``.

    Source: FLRC (arXiv 2510.09332), eq. 4 (appendix B).
    """

    name: str = "weight"

    CALIBRATED: ClassVar[bool] = False

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Squared Frobenius norm by target."""
        return {t.name: float(t.weight(dense.model).double().square().sum()) for t in dense.targets}
