"""What a decomposition is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.component import Component

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.calibration.statistics import InputStatistics
    from flrc.decomposition.factors import Factors


@dataclass
class Decomposition(Component, ABC):
    """Turns one weight and what calibration knows of its inputs into ordered factors."""

    CALIBRATED: ClassVar[bool] = True
    """Whether ``decompose`` reads the statistics; without it no calibration pass is run for it."""
    COMPRESSES: ClassVar[bool] = True
    """False only for ``none``: the model stays as it is, and rate is 0."""

    @abstractmethod
    def decompose(self, weight: Tensor, statistics: InputStatistics | None) -> Factors:
        """Factors of full rank, every prefix of which is the method's answer at that rank.

        Args:
            weight: ``(d_out, d_in)``, any float dtype.
            statistics: Statistics of the layer's inputs; None if ``CALIBRATED`` is False.

        Returns:
            float64 factors on the weight's device.
        """
