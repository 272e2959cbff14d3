"""Gradient statistics of a model, through the stage cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from flrc.calibration.gradients import aggregated, per_sequence
from flrc.calibration.statistics import GradientStatistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.cache import Entry
    from flrc.models.targets import Target


def gradient_statistics(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    reduction: str,
    entry: Entry,
) -> dict[str, GradientStatistics]:
    """Importance and squared gradient of every target; computed once and cached.

    Args:
        model: The dense model.
        targets: The layers.
        sequences: Calibration sequences.
        reduction: ``per_sequence`` or ``aggregate``.
        entry: Where the result is kept.
    """
    with entry.lock():
        if not entry.done:
            reduce = {"per_sequence": per_sequence, "aggregate": aggregated}[reduction]
            found = reduce(model, targets, sequences)
            entry.write_json("gradients.json", {name: vars(g) for name, g in found.items()})
            entry.finish()
        values = entry.read_json("gradients.json")
    return {name: GradientStatistics(**g) for name, g in values.items()}
