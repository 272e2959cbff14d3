"""The interface of a sensitivity: one score per target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component
from flrc.core.demand import Demand

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel
    from flrc.calibration.statistics import GradientStatistics
    from flrc.models.anatomy.model_shape import ModelShape

Gradients = Callable[[str], "dict[str, GradientStatistics]"]
"""Gradient statistics by target name (of a group, sums over its layers); the argument is the
reduction, ``per_sequence`` or ``aggregate``. Computed when asked for, and cached: one backward pass
serves every score that reads it."""


@dataclass
class Sensitivity(Component, ABC):
    """Scores targets; a layer with a higher score should be compressed less."""

    CALIBRATED: ClassVar[bool] = True
    """Whether calibration sequences are read."""

    def demand(self, shape: ModelShape, lengths: Sequence[int], fits: bool) -> Demand:
        """What :meth:`score` takes; reads no weight.

        The default is a forward and a backward pass with gradients of the weights, over each
        calibration sequence; without ``CALIBRATED``, one look at the weights.

        Args:
            shape: Of the model.
            lengths: Tokens of each calibration sequence.
            fits: Whether a sequence's graph is held; else activations are recomputed.
        """
        if not self.CALIBRATED:
            return Demand(moved=shape.itemsize * sum(target.dense for target in shape.targets))
        back = shape.backward(lengths, of_weights=True, recomputed=not fits)
        return shape.forward(lengths) + back

    @abstractmethod
    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Score by target name, finite and at least 0.

        It may run the model and leaves it as it was; without ``CALIBRATED`` there are no sequences.
        """
