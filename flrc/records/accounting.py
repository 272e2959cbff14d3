"""What a compressed model costs: parameters, bytes, operations; each layer's rank, error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from flrc.decomposition.factors import relative_error
from flrc.models.loading import parameter_count
from flrc.models.surgery import stored_parameters

if TYPE_CHECKING:
    from flrc.allocator.planning import Plans
    from flrc.config import RunConfig
    from flrc.decomposition.factorise import StoredFactors
    from flrc.models.targets import Target


def _sizes(
    model: nn.Module, targets: Sequence[Target], activated: int, stored: int
) -> dict[str, Any]:
    dense = sum(target.dense for target in targets)
    whole = parameter_count(model)
    itemsize = next(model.parameters()).dtype.itemsize
    # Two operations a weight that a token meets: the targets and the head; attention over the
    # context and elementwise operations are left out, they do not depend on the method.
    head = model.get_output_embeddings()  # type: ignore[operator]
    fixed = 0 if head is None else head.weight.numel()
    return {
        "parameters": {
            "targets_dense": dense,
            "targets_activated": activated,
            "targets_stored": stored,
            "model_dense": whole,
            "model_stored": whole - dense + stored,
        },
        "bytes": {
            "model_dense": whole * itemsize,
            "model_stored": (whole - dense + stored) * itemsize,
        },
        "flops_per_token": 2 * (activated + fixed),
    }


def account(
    config: RunConfig,
    model: nn.Module,
    targets: Sequence[Target],
    plans: Plans,
    factors: StoredFactors,
    scores: Mapping[str, float],
) -> dict[str, Any]:
    """The ``results`` of a compressed run, but for its measurements; ``model`` is still dense here.

    ``activated`` is the constant plan's; ``stored`` is what the schedule's phases need together.
    """
    dense = sum(target.dense for target in targets)
    activated = round((1 - plans.constant.realised) * dense)
    stored = stored_parameters(targets, [plan for _, plan in plans.phases], config.form)
    rescues = factors.rescues()
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
                "phase_ranks": [plan.ranks[target.name] for _, plan in plans.phases],
                "score": scores.get(target.name),
                "relative_error": 0.0
                if rank is None
                else relative_error(factors.spectrum(target.name), rank),
            }
        )
    return {
        **_sizes(model, targets, activated, stored),
        "rate": {"requested": config.rate, "realised": plans.constant.realised},
        "exact": plans.constant.exact,
        "phases": [
            {"begin": phase.begin, "requested": phase.rate, "realised": plan.realised}
            for phase, plan in plans.phases
        ],
        "layers": layers,
        "rescues": [{"target": name, "what": what} for name, what in rescues.items()],
    }


def account_dense(model: nn.Module, targets: Sequence[Target]) -> dict[str, Any]:
    """The ``results`` of a dense run, but for its measurements."""
    dense = sum(target.dense for target in targets)
    return {
        **_sizes(model, targets, dense, dense),
        "rate": {"requested": 0.0, "realised": 0.0},
        "exact": True,
        "phases": [{"begin": 0.0, "requested": 0.0, "realised": 0.0}],
        "layers": [],
        "rescues": [],
    }
