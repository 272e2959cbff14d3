"""No decomposition: the dense model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.decomposition.base import Decomposition, Inputs, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.decomposition.factors import Factors


@dataclass
class NoDecomposition(Decomposition):
    """Leaves every layer dense; the rate of such a run is 0, whatever was requested."""

    name: str = "none"

    CALIBRATED: ClassVar[bool] = False
    COMPRESSES: ClassVar[bool] = False

    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """Raises TypeError: nothing is decomposed."""
        raise TypeError("the dense model is not decomposed")
