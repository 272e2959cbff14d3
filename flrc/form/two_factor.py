"""Two plain factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.form.base import Form

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.plans.target import Target


@dataclass
class TwoFactor(Form):
    """``W' = left right``: rank r costs ``r (d_out + d_in)`` parameters."""

    name: str = "two_factor"

    def cost(self, rank: int, target: Target) -> int:
        """``rank * (d_out + d_in)``."""
        return rank * (target.d_out + target.d_in)

    def build(
        self, left_t: Tensor, right: Tensor, linears: Sequence[nn.Linear], keep_dense: bool
    ) -> list[nn.Module]:
        """A rank-major ``LowRankLinear`` each; the right factor is shared."""
        import torch

        from flrc.models.layers.low_rank_linear import LowRankLinear
        from flrc.models.layers.rows import FloatRows
        from flrc.models.layers.shared_product import SharedProduct

        like = linears[0].weight
        factor = FloatRows(right.to(like))
        shared = SharedProduct(len(linears)) if len(linears) > 1 else None
        widths = [linear.out_features for linear in linears]
        parts = torch.split(left_t.to(like), widths, dim=1)
        return [
            LowRankLinear(
                part.contiguous(),
                factor,
                None if linear.bias is None else linear.bias.data,
                linear.weight.data if keep_dense else None,
                shared,
            )
            for linear, part in zip(linears, parts, strict=True)
        ]
