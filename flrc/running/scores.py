"""Scores of a model's targets, through the stage cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flrc.calibration.statistics import GradientStatistics
from flrc.calibration.weight_gradients import aggregated, per_sequence

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel
    from flrc.core.cache import Entry
    from flrc.running.context import Context


def score(context: Context) -> dict[str, float]:
    """Score of every target (eq. 1, 4 or 5); empty if the allocator reads none.

    Raises:
        ValueError: If a score is negative.
    """
    if not context.config.allocator.SCORED:
        return {}
    with context.stages("sensitivity") as stage:

        def gradients(reduction: str) -> dict[str, GradientStatistics]:
            entry = context.entries.gradients(reduction)
            stage.cached = entry.done
            memory = context.config.paths.statistics_memory_gb * 1e9
            return gradient_statistics(context.dense, reduction, entry, memory)

        entry = context.entries.scores()
        stage.cached = entry.done
        with entry.lock():
            if not entry.done:
                scores = context.config.sensitivity.score(context.dense, gradients)
                if negative := [name for name, value in scores.items() if value < 0]:
                    raise ValueError(f"scores are negative at {', '.join(negative[:3])}")
                entry.write_json("scores.json", scores)
                entry.finish()
            stored: dict[str, float] = entry.read_json("scores.json")
    return stored


def gradient_statistics(
    dense: DenseModel, reduction: str, entry: Entry, memory: float
) -> dict[str, GradientStatistics]:
    """Importance and squared gradient of every target; computed once and cached.

    Args:
        dense: The model, its targets (of a group, the sums over its layers are added up) and the
            calibration sequences.
        reduction: ``per_sequence`` or ``aggregate``.
        entry: Where the result is kept, by layer.
        memory: Bytes up to which the graph of one sequence is held.
    """
    layers = [layer for target in dense.targets for layer in target.layers]
    with entry.lock():
        if not entry.done:
            reduce = {"per_sequence": per_sequence, "aggregate": aggregated}[reduction]
            measured = reduce(dense.model, layers, dense.sequences, memory)
            entry.write_json("gradients.json", {name: vars(g) for name, g in measured.items()})
            entry.finish()
        values = entry.read_json("gradients.json")
    return {
        target.name: GradientStatistics(
            importance=sum(values[layer.name]["importance"] for layer in target.layers),
            gradient=sum(values[layer.name]["gradient"] for layer in target.layers),
        )
        for target in dense.targets
    }
