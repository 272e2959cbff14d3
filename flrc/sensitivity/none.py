"""No scores: for allocators that need none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.sensitivity.base import ScoreContext, Sensitivity


@dataclass
class NoSensitivity(Sensitivity):
    """Scores nothing."""

    name: str = "none"

    CALIBRATED: ClassVar[bool] = False

    def score(self, context: ScoreContext) -> dict[str, float]:
        """Empty."""
        return {}
