"""What a decomposition is: one weight in, ordered low-rank factors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.core.component import Component
from flrc.core.demand import Demand
from flrc.decomposition.demands import root, svd, transformed

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.calibration.statistics import InputStatistics, OutputStatistics
    from flrc.decomposition.factors import Factors

Inputs: TypeAlias = "InputStatistics | None"
Outputs: TypeAlias = "OutputStatistics | None"


@dataclass
class Decomposition(Component, ABC):
    """Turns one weight and its calibration statistics into ordered factors."""

    CALIBRATED: ClassVar[bool] = True
    """Whether ``decompose`` reads statistics, so that a calibration pass is needed."""
    TWO_SIDED: ClassVar[bool] = False
    """Whether ``decompose`` reads gradients at the outputs, which cost a backward pass."""
    COMPRESSES: ClassVar[bool] = True
    """False only for ``none``: the model stays dense, and the rate is 0."""

    def gradients(self) -> OutputGradientSettings:
        """How gradients enter the statistics of the outputs; read only if ``TWO_SIDED`` is set."""
        return OutputGradientSettings()

    def demand(self, d_out: int, d_in: int, tokens: int) -> Demand:
        """What :meth:`decompose` takes for a weight of this shape; reads no weight.

        The default is a root for each side that is read, and an SVD; ``tokens`` are those that the
        statistics are from.
        """
        found = svd(d_out, d_in)
        for width, read in ((d_in, self.CALIBRATED), (d_out, self.TWO_SIDED)):
            if read:
                both = root(width), transformed(d_out, d_in, width)
                found = both[0] + both[1] + found.holding(both[0].held + both[1].held)
        return found

    @abstractmethod
    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """Factors of full rank, every prefix of which is the method's answer at that rank.

        Args:
            weight: ``(d_out, d_in)``, any float dtype.
            inputs: Statistics of the layer's inputs; None if ``CALIBRATED`` is False.
            outputs: Statistics of the gradients at its outputs; None unless ``TWO_SIDED``.

        Returns:
            float64 factors on the weight's device.
        """
