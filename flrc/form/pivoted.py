"""Factors without the identity block that any right factor contains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.demand import Demand
from flrc.form.base import Form

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.plans.target import Target


@dataclass
class Pivoted(Form):
    """``W' x = left' (x[J] + A' x[rest])``: rank r costs ``r (d_out + d_in - r)`` parameters.

    ``W' = B A`` is expressed in ``r`` pivot columns ``J`` of ``A``: ``left' = B A_J`` and
    ``A' = A_J^-1 A_rest``. The product is the same. A full-rank layer costs as much as the dense
    one, so every lower rank saves parameters.

    Source: SkipCat (arXiv 2512.13494), the part called Skip. PIFA (ICML 2025) does the same with
        pivot rows, FlexRank's GAR (arXiv 2602.02680) with the leading rows.
    Differs: pivots are exchanged until every coefficient is within ``bound``, where the paper takes
        the pivots of a rank-revealing QR.

    Attributes:
        bound: Largest magnitude of a coefficient of ``A'``, above 1; a smaller bound loses less
            precision in float16 and bfloat16, and takes longer to reach.
    """

    NESTED: ClassVar[bool] = False

    name: str = "pivoted"
    bound: float = 1.25

    def check(self) -> None:
        """Checks the bound."""
        self.require(1 < self.bound < float("inf"), "bound", "a number above 1")

    def cost(self, rank: int, target: Target) -> int:
        """``rank * (d_out + d_in - rank)``."""
        return rank * (target.d_out + target.d_in - rank)

    def demand(self, rank: int, target: Target) -> Demand:
        """An elimination of the right factor, a solve and a product; exchanges are not counted.

        Their number depends on the factor.
        """
        width = target.d_in
        return super().demand(rank, target) + Demand(
            double=rank**2 * (2 * target.d_out + 2 * width - 4 * rank / 3),
            held=8 * (3 * rank * width + rank * target.d_out),
        )

    def index_bytes(self, rank: int, target: Target) -> int:
        """Four bytes for each input: their order."""
        return 4 * target.d_in

    def build(
        self, left_t: Tensor, right: Tensor, linears: Sequence[nn.Linear], keep_dense: bool
    ) -> list[nn.Module]:
        """One ``PivotedLinear`` per layer; the coefficients are shared."""
        import torch

        from flrc.form.parts import parts
        from flrc.form.pivot_columns import pivot_columns
        from flrc.models.layers.pivoted_linear import PivotedLinear
        from flrc.models.layers.rows import FloatRows

        pivots = pivot_columns(right, self.bound)
        left_t = right.double()[:, pivots.order[: len(right)]].T @ left_t.double()  # (B A_J)^T
        like = linears[0].weight
        coefficients = FloatRows(pivots.coefficients.to(like))
        order = pivots.order.to(like.device, torch.int32)
        return [
            PivotedLinear(left, coefficients, order, bias, dense, shared)
            for left, bias, dense, shared in parts(left_t, linears, keep_dense)
        ]
