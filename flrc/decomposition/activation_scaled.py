"""ASVD's scaling of input channels before the SVD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.core.demand import Demand
from flrc.decomposition.base import Decomposition, Inputs, Outputs
from flrc.decomposition.demands import svd, transformed

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.decomposition.factors import Factors


@dataclass
class ActivationScaled(Decomposition):
    """SVD of ``W S`` with ``S = diag(mean |x_j| ** alpha)``, undone on the right.

    Source: ASVD (arXiv 2312.05821), eq. 6-8, alpha = 0.5.
    Differs: an exact SVD. The published code calls the randomised ``svd_lowrank``, whose result
        depends on an unseeded draw.

    Attributes:
        alpha: Exponent of the mean absolute activation, 0 (plain SVD) to 1.
        floor: Added to every scale, so that a channel that is always 0 can be divided by it.
    """

    name: str = "activation_scaled"
    alpha: float = 0.5
    floor: float = 1e-6

    def check(self) -> None:
        """Checks ``alpha`` and ``floor``."""
        self.require(0 <= self.alpha <= 1, "alpha", "a number in [0, 1]")
        self.require(self.floor > 0, "floor", "a number above 0")

    def demand(self, d_out: int, d_in: int, tokens: int) -> Demand:
        """An SVD; the scales are multiplied as matrices, and no root is computed."""
        return transformed(d_out, d_in, d_in) + svd(d_out, d_in).holding(16 * d_in**2)

    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """``W = (U Sigma) (V^T S^-1)`` from the SVD of ``W S``."""
        from flrc.decomposition.truncation import Root, truncated

        if inputs is None:
            raise ValueError("activation_scaled needs the statistics of the layer's inputs")
        scale = inputs.mean_abs.double() ** self.alpha + self.floor
        return truncated(weight, Root(scale.diag(), (1 / scale).diag(), None))
