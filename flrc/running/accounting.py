"""What a compressed model costs: parameters, bytes, operations; each layer's rank, error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from flrc.allocator.dead_targets import dead_targets
from flrc.decomposition.factors import relative_error
from flrc.form.surgery import stored_index_bytes, stored_parameters
from flrc.models.anatomy.target_coverage import coverage
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.sources.loading import parameter_count
from flrc.plans.run_plans import phase_json

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel
    from flrc.decomposition.factor_store import StoredFactors
    from flrc.plans.run_plans import Plans
    from flrc.plans.target import Target
    from flrc.refine.factor_store import RefinedFactors
    from flrc.running.context import Context


def _sizes(
    dense_model: DenseModel, activated: int, stored: int | None, indices: int = 0
) -> dict[str, Any]:
    """Counts of a model, without those of what it stores if ``stored`` is None."""
    model, targets = dense_model.model, dense_model.targets
    dense = sum(target.dense for target in targets)
    whole = parameter_count(model)
    itemsize = next(model.parameters()).dtype.itemsize
    # Two operations for each weight that a token meets, in the targets and the head; attention over
    # the context and elementwise operations, which no method changes, are left out.
    head = model.get_output_embeddings()
    fixed = 0 if head is None else head.weight.numel()
    parameters = {
        "targets_dense": dense,
        "targets_activated": activated,
        "model_dense": whole,
        **coverage(model, targets).to_json(),
    }
    sizes = {"model_dense": whole * itemsize}
    if stored is not None:
        parameters |= {"targets_stored": stored, "model_stored": whole - dense + stored}
        sizes |= {"model_stored": parameters["model_stored"] * itemsize + indices}
        sizes |= {"indices": indices}
    return {"parameters": parameters, "bytes": sizes, "flops_per_token": 2 * (activated + fixed)}


def account(
    context: Context, plans: Plans, factors: StoredFactors, scores: Mapping[str, float]
) -> dict[str, Any]:
    """The ``results`` of a compressed run, but for its measurements; the model is still dense here.

    ``activated`` is the constant plan's; ``stored`` is what the schedule's phases need together,
    and left out while their search is deferred; a layer's ``relative_error`` is the
    decomposition's, before any refinement.
    """
    targets, form = context.dense.targets, context.config.form
    dense = sum(target.dense for target in targets)
    activated = round((1 - plans.constant.realised) * dense)
    phases = [plan for _, plan in plans.phases]
    stored = stored_parameters(targets, phases, form) if phases else None
    indices = stored_index_bytes(targets, phases, form)
    layers = []
    for target in targets:
        rank = plans.constant.ranks[target.name]
        layers.append(
            {
                "target": target.name,
                "block": target.block,
                "projection": target.projection,
                "shape": [target.d_out, target.d_in],
                "rank": rank,
                "phase_ranks": [plan.ranks[target.name] for plan in phases],
                "score": scores.get(target.name),
                "relative_error": 0.0
                if rank is None
                else relative_error(factors.spectrum(target.name), rank),
            }
        )
    return {
        **_sizes(context.dense, activated, stored, indices),
        "rate": {"requested": context.config.rate, "realised": plans.constant.realised},
        "exact": plans.constant.exact,
        "phases": [
            {**phase_json(phase), "requested": phase.rate, "realised": plan.realised}
            for phase, plan in plans.phases
        ],
        "layers": layers,
    }


def fallbacks(
    plans: Plans,
    factors: StoredFactors,
    refined: RefinedFactors | None,
    scores: Mapping[str, float],
) -> list[dict[str, str]]:
    """``target`` and ``what`` of each numerical fallback; also how dead layers are kept.

    Args:
        plans: Of the run.
        factors: Of the decomposition.
        refined: Fitted to the plan; None if nothing was.
        scores: By target name; empty if none were read.
    """
    by_target, kept = factors.rescues(), factors.kept()
    for name in dead_targets(scores, kept):
        rank = plans.constant.ranks[name]
        reason = by_target[name] if name in kept else f"its score is {scores[name]:g}"
        by_target[name] = f"{reason}: kept {'dense' if rank is None else f'at rank {rank}'}"
    later = {} if refined is None else refined.rescues()
    return [
        *({"target": name, "what": what} for name, what in by_target.items()),
        *({"target": name, "what": f"refined: {what}"} for name, what in later.items()),
    ]


def note_coefficients(
    layers: Sequence[dict[str, Any]], model: nn.Module, targets: Sequence[Target]
) -> None:
    """Add the largest coefficient of each pivoted target to its row of ``layers``.

    Args:
        layers: The rows of :func:`account`, one for each target; changed in place.
        model: The compressed model: only a built layer knows its coefficients.
        targets: The layers.
    """
    for row, target in zip(layers, targets, strict=True):
        layer = model.get_submodule(target.layers[0].name)  # a group shares its coefficients
        pivoted = [m.largest_coefficient for m in layer.modules() if isinstance(m, PivotedLinear)]
        if pivoted:
            row["largest_coefficient"] = max(pivoted)


def account_dense(dense_model: DenseModel) -> dict[str, Any]:
    """The ``results`` of a dense run, but for its measurements."""
    dense = sum(target.dense for target in dense_model.targets)
    return {
        **_sizes(dense_model, dense, dense),
        "rate": {"requested": 0.0, "realised": 0.0},
        "exact": True,
        "phases": [{"begin": 0.0, "requested": 0.0, "realised": 0.0}],
        "layers": [],
        "rescues": [],
    }
