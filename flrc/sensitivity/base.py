"""What a sensitivity is: one score per target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.component import Component

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.calibration.statistics import GradientStatistics
    from flrc.models.targets import Target


@dataclass(frozen=True)
class ScoreContext:
    """What a sensitivity may look at; nothing is computed before it is asked for.

    Attributes:
        targets: The layers.
        weight: Dense weight ``(d_out, d_in)`` by target name.
        gradients: Gradient statistics by target name; the argument is the reduction,
            ``per_sequence`` or ``aggregate``. Cached: one backward pass serves every score that
            reads it.
    """

    targets: list[Target]
    weight: Callable[[str], Tensor]
    gradients: Callable[[str], dict[str, GradientStatistics]]


@dataclass
class Sensitivity(Component, ABC):
    """Scores targets; a higher score means a layer that should be compressed less."""

    CALIBRATED: ClassVar[bool] = True
    """Whether calibration sequences are read."""

    @abstractmethod
    def score(self, context: ScoreContext) -> dict[str, float]:
        """Score by target name, finite and at least 0."""

    def inputs(self) -> dict[str, Any]:
        """What decides the scores, for ids and cache keys."""
        return self.describe()
