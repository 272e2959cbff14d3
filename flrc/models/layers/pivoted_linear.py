"""The low-rank layer with an identity in its right factor (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import Rows, as_rows
from flrc.models.layers.shared_product import SharedProduct


class PivotedLinear(FactoredLinear):
    """``y = left^T (x[pivots] + coefficients x[rest]) + bias`` at the one rank it was built for.

    ``r (d_out + d_in - r)`` parameters, and the permutation ``order`` as integers.

    Args:
        left_t: ``(r, d_out)``.
        coefficients: ``(r, d_in - r)``; the same object in all layers of a group.
        order: ``(d_in,)`` int32: the ``r`` pivots, then the rest; stored as a buffer.
        bias, weight, shared: As in :class:`FactoredLinear`.
    """

    order: Tensor

    def __init__(
        self,
        left_t: Float[Tensor, "r m"] | Rows,
        coefficients: Float[Tensor, "r k"] | Rows,
        order: Int[Tensor, " n"],
        bias: Float[Tensor, " m"] | None = None,
        weight: Float[Tensor, "m n"] | Rows | None = None,
        shared: SharedProduct | None = None,
    ) -> None:
        left, rest = as_rows(left_t), as_rows(coefficients)
        if (rest.count, rest.width) != (left.count, order.shape[0] - left.count):
            raise ValueError(f"{rest} does not fit a rank of {left.count}")
        super().__init__(left.width, order.shape[0], left.count, bias, weight, shared)
        self.left_t, self.coefficients = left, rest
        self.register_buffer("order", order)
        self.index_bytes = order.nbytes

    @property
    def largest_coefficient(self) -> float:
        """Largest magnitude of a stored coefficient; 0 if there are none (full rank)."""
        coefficients = self.coefficients.dense()
        return float(coefficients.abs().max()) if coefficients.numel() else 0.0

    def check_rank(self, rank: int) -> None:
        """Only the rank for which the factors were pivoted; their prefixes are meaningless."""
        if rank != self.left_t.count:
            raise ValueError(f"a pivoted layer of rank {self.left_t.count} cannot run at {rank}")

    @property
    def input_rows(self) -> Rows:
        """The coefficients."""
        return self.coefficients

    def project(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch r"]:
        """``x[pivots] + coefficients x[rest]``, rounded once."""
        rank = self.left_t.count
        flat = x.reshape(-1, self.in_features)
        pivots = flat.index_select(1, self.order[:rank])
        rest = flat.index_select(1, self.order[rank:])
        hidden = self.coefficients.products(rest, plus=pivots)
        return hidden.view(*x.shape[:-1], rank)

    def expand(self, hidden: Float[Tensor, "*batch r"]) -> Float[Tensor, "*batch m"]:
        """``left hidden + bias``."""
        return self.left_t.combine(hidden, plus=self.bias)
