"""The low-rank layer in its plain form: two factors (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import Rows, as_rows
from flrc.models.layers.shared_product import SharedProduct


class LowRankLinear(FactoredLinear):
    """``y = left^T (right x) + bias`` at an active rank that can change between calls.

    Both factors are stored rank by rank, so the first ``k`` ranks are a contiguous block of each,
    and a change of rank is a change of view: nothing is copied.

    Args:
        left_t: ``(r, d_out)``.
        right: ``(r, d_in)``; the same object in all layers of a group.
        bias, weight, shared: As in :class:`FactoredLinear`.
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
            raise ValueError(f"the factors have {left.count} and {inner.count} ranks")
        super().__init__(left.width, inner.width, inner.count, bias, weight, shared)
        self.left_t, self.right = left, inner

    def check_rank(self, rank: int) -> None:
        """Any rank from 1 to the number of stored ranks; 0 if there are none."""
        if not min(1, self.right.count) <= rank <= self.right.count:
            raise ValueError(f"rank {rank} is outside 1..{self.right.count}")

    @property
    def input_rows(self) -> Rows:
        """The right factor."""
        return self.right

    def project(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch k"]:
        """``right x`` at the active rank."""
        return self.right.products(x, self._rank)

    def expand(self, hidden: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch m"]:
        """``left^T hidden + bias``."""
        return self.left_t.combine(hidden, self._rank, self.bias)
