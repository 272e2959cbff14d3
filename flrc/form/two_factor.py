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
        """One rank-major ``LowRankLinear`` per layer; the right factor is shared."""
        from flrc.form.parts import parts
        from flrc.models.layers.low_rank_linear import LowRankLinear
        from flrc.models.layers.rows import FloatRows

        factor = FloatRows(right.to(linears[0].weight))
        return [
            LowRankLinear(left, factor, bias, dense, shared)
            for left, bias, dense, shared in parts(left_t, linears, keep_dense)
        ]
