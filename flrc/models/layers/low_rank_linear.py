"""The low-rank layer in its plain form: two factors.

Part of ``modeling_flrc.py``; see :mod:`~flrc.models.checkpoints.standalone_code`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import Rows, as_rows
from flrc.models.layers.shared_product import SharedProduct


class LowRankLinear(FactoredLinear):
    """``y = left^T (right x) + bias`` at an active rank that can change between calls.

    Both factors are rank-major, so the first ``k`` ranks are one contiguous block of each and a
    change of rank is a change of view: nothing is copied.

    Args:
        left_t: ``(r, d_out)``.
        right: ``(r, d_in)``; in a group one object that all its layers are given.
        bias: ``(d_out,)`` or None; stays on the output, as in the dense layer.
        weight: ``(d_out, d_in)``, kept only where some phase of a schedule keeps this layer dense.
        shared: Held by all layers of a group; None for a layer by itself.
    """

    def __init__(
        self,
        left_t: Float[Tensor, "r m"] | Rows,
        right: Float[Tensor, "r n"] | Rows,
        bias: Float[Tensor, " m"] | None = None,
        weight: Float[Tensor, "m n"] | Rows | None = None,
        shared: SharedProduct | None = None,
    ) -> None:
        left, inner = as_rows(left_t), as_rows(right)
        if left.count != inner.count:
            raise ValueError(f"factors of {left.count} and {inner.count} ranks")
        super().__init__(left.width, inner.width, inner.count, bias, weight, shared)
        self.left_t, self.right = left, inner

    def check_rank(self, rank: int) -> None:
        """Any rank from 1 up to the ranks held; 0 where none is."""
        if not min(1, self.right.count) <= rank <= self.right.count:
            raise ValueError(f"rank {rank} is outside 1..{self.right.count}")

    @property
    def input_rows(self) -> Rows:
        """The right factor."""
        return self.right

    @property
    def input_parameters(self) -> int:
        """``rank * d_in``."""
        return (self._rank or 0) * self.in_features

    @property
    def output_parameters(self) -> int:
        """``rank * d_out``."""
        return (self._rank or 0) * self.out_features

    def project(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch k"]:
        """``right x`` at the active rank."""
        return self.right.products(x, self._rank)

    def expand(self, hidden: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch m"]:
        """``left^T hidden + bias``."""
        return self.left_t.combine(hidden, self._rank, self.bias)
