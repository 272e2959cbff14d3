"""MoDeGPT's score: how much a block rotates its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.calibration.dense_model import DenseModel
from flrc.core.demand import Demand
from flrc.sensitivity.base import Gradients, Sensitivity

if TYPE_CHECKING:
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class BlockInfluence(Sensitivity):
    """``s = 1 - E[cos(x_in, x_out)]`` of the target's decoder block, over all calibration tokens.

    All targets of a block have the same score.

    Source: MoDeGPT (arXiv 2408.09632); block influence is from ShortGPT (arXiv 2403.03853).
    """

    name: str = "block_influence"

    def demand(self, shape: ModelShape, lengths: Sequence[int], fits: bool) -> Demand:
        """A forward pass without the head."""
        return shape.forward(lengths, head=False)

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Influence of each target's block, in [0, 2]."""
        from flrc.calibration.block_influence import block_influence

        influence = block_influence(dense.model, dense.sequences)
        return {target.name: influence[target.block] for target in dense.targets}
