"""Scores of a model's targets, through the stage cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from flrc.calibration.statistics import GradientStatistics
from flrc.calibration.weight_gradients import aggregated, per_sequence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.core.cache import Entry
    from flrc.plans.target import Target
    from flrc.sensitivity.base import ScoreContext, Sensitivity


def gradient_statistics(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    reduction: str,
    entry: Entry,
    memory: float,
) -> dict[str, GradientStatistics]:
    """Importance and squared gradient of every target; computed once and cached.

    Args:
        model: The dense model.
        targets: Layers, or groups of them (whose sums are added up).
        sequences: Calibration sequences.
        reduction: ``per_sequence`` or ``aggregate``.
        entry: Where the result is kept, by layer.
        memory: Bytes up to which the graph of one sequence is held.
    """
    layers = [layer for target in targets for layer in target.layers]
    with entry.lock():
        if not entry.done:
            reduce = {"per_sequence": per_sequence, "aggregate": aggregated}[reduction]
            found = reduce(model, layers, sequences, memory)
            entry.write_json("gradients.json", {name: vars(g) for name, g in found.items()})
            entry.finish()
        values = entry.read_json("gradients.json")
    return {
        target.name: GradientStatistics(
            importance=sum(values[layer.name]["importance"] for layer in target.layers),
            gradient=sum(values[layer.name]["gradient"] for layer in target.layers),
        )
        for target in targets
    }


def scores_of(sensitivity: Sensitivity, context: ScoreContext, entry: Entry) -> dict[str, float]:
    """Scores by target name; computed once and cached.

    Raises:
        ValueError: If one is negative.
    """
    with entry.lock():
        if not entry.done:
            scores = sensitivity.score(context)
            if negative := [name for name, score in scores.items() if score < 0]:
                raise ValueError(f"scores are negative at {', '.join(negative[:3])}")
            entry.write_json("scores.json", scores)
            entry.finish()
        found: dict[str, float] = entry.read_json("scores.json")
    return found
