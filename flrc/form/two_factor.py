"""Two plain factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.form.base import Form

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.models.targets import Target


@dataclass
class TwoFactor(Form):
    """``W' = left right``: rank r costs ``r (d_out + d_in)`` parameters."""

    name: str = "two_factor"

    def cost(self, rank: int, target: Target) -> int:
        """``rank * (d_out + d_in)``."""
        return rank * (target.d_out + target.d_in)

    def build(
        self, left_t: Tensor, right: Tensor, bias: Tensor | None, weight: Tensor | None
    ) -> nn.Module:
        """A rank-major :class:`~flrc.models.lowrank.LowRankLinear`."""
        from flrc.models.lowrank import LowRankLinear

        return LowRankLinear(left_t, right, bias, weight)
