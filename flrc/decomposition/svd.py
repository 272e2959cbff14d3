"""Plain truncated SVD of the weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.decomposition.base import Decomposition, Inputs, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.decomposition.factors import Factors


@dataclass
class Svd(Decomposition):
    """Minimises ``||W - W'||_F``; blind to the activations (Eckart and Young, 1936)."""

    name: str = "svd"

    CALIBRATED: ClassVar[bool] = False

    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """``W = U Sigma V^T``, truncated."""
        from flrc.decomposition.truncation import truncated

        return truncated(weight)
