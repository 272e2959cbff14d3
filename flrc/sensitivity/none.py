"""No scores, for allocators that do not read any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.calibration.dense_model import DenseModel
from flrc.sensitivity.base import Gradients, Sensitivity


@dataclass
class NoSensitivity(Sensitivity):
    """Computes no scores."""

    name: str = "none"

    CALIBRATED: ClassVar[bool] = False

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """An empty dictionary."""
        return {}
