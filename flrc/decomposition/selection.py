"""The largest rows or columns of a weight: factors that cost nothing to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.demand import Demand
from flrc.decomposition.base import Decomposition, Inputs, Outputs

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.decomposition.factors import Factors


@dataclass
class Selection(Decomposition):
    """Rank r keeps the r rows (wide weights) or columns (tall weights) with the largest norms.

    Not meant for accuracy: it needs no SVD, so it serves to measure the speed of ranks on models
    with random weights (``model=random``). The factors are as large in memory as any others.
    """

    name: str = "selection"

    CALIBRATED: ClassVar[bool] = False

    def demand(self, d_out: int, d_in: int, tokens: int) -> Demand:
        """A copy of the weight and of as many unit vectors."""
        size = 8 * min(d_out, d_in) * (d_out + d_in)
        return Demand(moved=2 * size, held=size)

    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """``W = sum of e_i w_i^T`` over its rows, or of ``w_j e_j^T`` over its columns."""
        import torch

        from flrc.decomposition.factors import Factors

        weight = weight.double()
        wide = weight.shape[0] <= weight.shape[1]
        vectors = weight if wide else weight.T
        norms, order = vectors.norm(dim=1).sort(descending=True, stable=True)
        kept = vectors[order]
        chosen = torch.eye(len(order), dtype=weight.dtype, device=weight.device)[order]
        return Factors(chosen, kept, norms) if wide else Factors(kept, chosen, norms)
