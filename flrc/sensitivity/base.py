"""The interface of a sensitivity: one score per target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel
    from flrc.calibration.statistics import GradientStatistics

Gradients = Callable[[str], "dict[str, GradientStatistics]"]
"""Gradient statistics by target name (of a group, sums over its layers); the argument is the
reduction, ``per_sequence`` or ``aggregate``. Computed when asked for, and cached: one backward pass
serves every score that reads it."""


@dataclass
class Sensitivity(Component, ABC):
    """Scores targets; a layer with a higher score should be compressed less."""

    CALIBRATED: ClassVar[bool] = True
    """Whether calibration sequences are read."""

    @abstractmethod
    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Score by target name, finite and at least 0.

        It may run the model and leaves it as it was; without ``CALIBRATED`` there are no sequences.
        """
