"""No scores: for allocators that need none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.sensitivity.base import Gradients, Sensitivity

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel


@dataclass
class NoSensitivity(Sensitivity):
    """Scores nothing."""

    name: str = "none"

    CALIBRATED: ClassVar[bool] = False

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Empty."""
        return {}
