"""Scores from gradient statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.core.demand import Demand, total
from flrc.errors import choose
from flrc.sensitivity.base import Sensitivity

if TYPE_CHECKING:
    from flrc.models.anatomy.model_shape import ModelShape

REDUCTIONS = ("per_sequence", "aggregate")


@dataclass
class GradientScore(Sensitivity):
    """A score that reads the gradient statistics of the calibration loss.

    Attributes:
        reduction: ``per_sequence``: the gradient of each sequence is squared. ``aggregate``: that
            of the whole calibration set is squared.
    """

    reduction: str = "per_sequence"

    def demand(self, shape: ModelShape, lengths: Sequence[int], fits: bool) -> Demand:
        """One pass; four for the gradient of the whole set, of a quarter of the blocks each."""
        found = super().demand(shape, lengths, fits)
        if self.reduction == "per_sequence":
            return found
        from flrc.calibration.weight_gradients import AGGREGATION_PASSES

        dense = sum(target.dense for target in shape.targets)
        size = -(-len(shape.blocks) // AGGREGATION_PASSES)
        passes = [
            shape.forward(lengths)
            + shape.backward(lengths, first=first, of_weights=False, recomputed=not fits)
            + Demand(model=-2 * sum(lengths) * shape.first_group(first))
            for first in range(0, len(shape.blocks), size)
        ]
        weights = Demand(2 * sum(lengths) * dense, moved=3 * len(lengths) * dense * shape.itemsize)
        return (total(passes) + weights).holding(dense * shape.itemsize / len(passes))

    def check(self) -> None:
        """Checks the reduction."""
        choose("sensitivity.reduction", self.reduction, REDUCTIONS)
