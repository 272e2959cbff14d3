"""What a sensitivity is: one score per target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.calibration.statistics import GradientStatistics
    from flrc.plans.target import Target


@dataclass(frozen=True)
class ScoreContext:
    """What a sensitivity may look at; nothing is computed before it is asked for.

    Attributes:
        targets: What is scored: layers, or groups of layers that share an input.
        model: The dense model, in evaluation mode; a score may run it, and leaves it as it was.
        sequences: Calibration sequences ``(tokens,)``; empty unless the score is ``CALIBRATED``.
        gradients: Gradient statistics by target name (sums over the layers of a group); the
            argument is the reduction, ``per_sequence`` or ``aggregate``. Cached: one backward pass
            serves every score that reads it.
        seed: Of what a score draws.
    """

    targets: list[Target]
    model: PreTrainedModel
    sequences: list[Tensor]
    gradients: Callable[[str], dict[str, GradientStatistics]]
    seed: int = 0


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
