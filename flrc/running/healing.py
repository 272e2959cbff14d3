"""Replaces the layers by their factors, and tunes these where the run asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flrc.calibration.activation_checkpointing import graph_fits
from flrc.form import surgery
from flrc.healing.block_tuning import remove_blocks
from flrc.healing.draws import tuned_plans
from flrc.healing.healing_input import HealingInput
from flrc.healing.states import remove_states
from flrc.healing.tuned_tensors import read_tensors, tensors_of
from flrc.models.layers.switching import activate
from flrc.refine.factor_store import RefinedFactors

if TYPE_CHECKING:
    from flrc.decomposition.factor_store import StoredFactors
    from flrc.plans.run_plans import Plans
    from flrc.plans.target import Target
    from flrc.running.context import Context

HEALED, COURSE = "healed.safetensors", "healing.json"
STEPS = 128
"""Steps of a reply by which phases are weighted, if no search says how long replies are."""


def replace_layers(
    context: Context, plans: Plans, factors: StoredFactors | RefinedFactors
) -> dict[str, Any] | None:
    """Surgery and healing: the model is dense before and compressed after, in place.

    Returns:
        How the healing went, for the record; None if nothing is healed.
    """
    dense, form = context.dense, context.config.form

    def replace(targets: Sequence[Target]) -> None:
        surgery.compress(dense.model, targets, plans.all, form, factors.factors)

    if not context.config.heal.HEALS:
        with context.stages("surgery"):
            replace(dense.targets)
        return None
    heal = context.config.heal
    steps = getattr(context.config.search, "max_new_tokens", STEPS)
    tuned = tuned_plans(plans, steps)
    weights = [each.weight for each in tuned]
    entry = context.entries.healed(plans, weights, isinstance(factors, RefinedFactors))
    with entry.lock(), context.stages("healing") as stage:
        stage.cached = entry.done
        if entry.done:
            replace(dense.targets)
        else:
            memory = context.config.paths.statistics_memory_gb * 1e9
            fits = graph_fits(dense.model, dense.targets, dense.sequences, memory)
            given = HealingInput(
                dense,
                context.held_out,
                tuned,
                form,
                replace,
                entry,
                context.entries.generated,
                recomputed=not fits,
            )
            course = heal.heal(given)
            entry.write_tensors(HEALED, tensors_of(dense.model, dense.model), {})
            entry.write_json(COURSE, course)
            remove_blocks(entry)
            remove_states(entry)
            entry.finish()
        read_tensors(dense.model, entry.path / HEALED)
        activate(dense.model, plans.constant)
        counts = [len(sequence) for sequence in (*dense.sequences, *context.held_out)]
        return {**entry.read_json(COURSE), "tokens": sum(counts)}
