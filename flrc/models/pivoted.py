"""The low-rank layer whose right factor holds an identity that is not stored."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flrc.models.factored import FactoredLinear, as_parameter
from flrc.models.shared import SharedProduct


class PivotedLinear(FactoredLinear):
    """``y = left (x[pivots] + coefficients x[rest]) + bias`` at the one rank it was built for.

    ``r (d_out + d_in - r)`` parameters, and the permutation ``order`` as integers.

    Args:
        left: ``(d_out, r)``.
        coefficients: ``(r, d_in - r)``; in a group one parameter that all its layers are given.
        order: ``(d_in,)`` int32: the ``r`` pivots, then the rest; kept as a buffer.
        bias: ``(d_out,)`` or None; stays on the output, as in the dense layer.
        weight: ``(d_out, d_in)``, kept only where the layer must run dense too.
        shared: Held by all layers of a group; None for a layer by itself.
    """

    order: Tensor

    def __init__(
        self,
        left: Float[Tensor, "m r"],
        coefficients: Float[Tensor, "r k"],
        order: Int[Tensor, " n"],
        bias: Float[Tensor, " m"] | None = None,
        weight: Float[Tensor, "m n"] | None = None,
        shared: SharedProduct | None = None,
    ) -> None:
        super().__init__(left.shape[0], order.shape[0], left.shape[1], bias, weight, shared)
        self.left = as_parameter(left)
        self.coefficients = as_parameter(coefficients)
        self.register_buffer("order", order)

    @property
    def largest_coefficient(self) -> float:
        """Largest magnitude of a stored coefficient; 0 where there is none (full rank)."""
        return float(self.coefficients.abs().max()) if self.coefficients.numel() else 0.0

    def check_rank(self, rank: int) -> None:
        """Only the rank that the factors were pivoted for: their prefixes mean nothing."""
        if rank != self.left.shape[1]:
            raise ValueError(f"a pivoted layer of rank {self.left.shape[1]} cannot run at {rank}")

    @property
    def input_tensors(self) -> tuple[nn.Parameter, ...]:
        """The coefficients."""
        return (self.coefficients,)

    @property
    def input_parameters(self) -> int:
        """``rank * (d_in - rank)``."""
        return 0 if self._rank is None else self.coefficients.numel()

    @property
    def output_parameters(self) -> int:
        """``rank * d_out``."""
        return 0 if self._rank is None else self.left.numel()

    def project(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch r"]:
        """``x[pivots] + coefficients x[rest]``, rounded once."""
        rank = self.left.shape[1]
        flat = x.reshape(-1, self.in_features)
        pivots = flat.index_select(1, self.order[:rank])
        rest = flat.index_select(1, self.order[rank:])
        hidden = torch.addmm(pivots, rest, self.coefficients.T)
        return hidden.view(*x.shape[:-1], rank)

    def expand(self, hidden: Float[Tensor, "*batch r"]) -> Float[Tensor, "*batch m"]:
        """``left hidden + bias``."""
        return nn.functional.linear(hidden, self.left, self.bias)
