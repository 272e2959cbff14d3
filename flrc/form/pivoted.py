"""Factors without the identity that any right factor holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.form.base import Form

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.plans.target import Target


@dataclass
class Pivoted(Form):
    """``W' x = left' (x[J] + A' x[rest])``: rank r costs ``r (d_out + d_in - r)`` parameters.

    ``W' = B A`` is written in ``r`` pivot columns ``J`` of ``A``: ``left' = B A_J`` and
    ``A' = A_J^-1 A_rest``. The product is the same; a full-rank layer costs what the dense one
    costs, so every rank below it saves.

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
        """Range of the bound."""
        self.require(1 < self.bound < float("inf"), "bound", "a number above 1")

    def cost(self, rank: int, target: Target) -> int:
        """``rank * (d_out + d_in - rank)``."""
        return rank * (target.d_out + target.d_in - rank)

    def index_bytes(self, rank: int, target: Target) -> int:
        """The order of the inputs: four bytes each."""
        return 4 * target.d_in

    def build(
        self, left_t: Tensor, right: Tensor, linears: Sequence[nn.Linear], keep_dense: bool
    ) -> list[nn.Module]:
        """A ``PivotedLinear`` each; the coefficients are shared."""
        import torch

        from flrc.form.pivot_columns import pivot_columns
        from flrc.models.layers.pivoted_linear import PivotedLinear
        from flrc.models.layers.rows import FloatRows
        from flrc.models.layers.shared_product import SharedProduct

        found = pivot_columns(right, self.bound)
        pivots = found.order[: right.shape[0]]
        left_t = right.double()[:, pivots].T @ left_t.double()
        like = linears[0].weight
        coefficients = FloatRows(found.coefficients.to(like))
        order = found.order.to(like.device, torch.int32)
        shared = SharedProduct(len(linears)) if len(linears) > 1 else None
        parts = torch.split(left_t, [linear.out_features for linear in linears], dim=1)
        return [
            PivotedLinear(
                part.to(like).contiguous(),
                coefficients,
                order,
                None if linear.bias is None else linear.bias.data,
                linear.weight.data if keep_dense else None,
                shared,
            )
            for linear, part in zip(linears, parts, strict=True)
        ]
