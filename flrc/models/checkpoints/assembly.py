"""Assembles a model from a manifest and tensors (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from flrc.errors import UserError
from flrc.models.checkpoints.layer_specs import LayerBuilder
from flrc.models.checkpoints.manifest import AGAIN, CONFIG, FILE, blaming, regular
from flrc.models.layers.compressed_layers import low_rank_layers, replace
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.layers.switching import activate
from flrc.plans.run_plans import Plans


def assemble(
    model: nn.Module, manifest: dict[str, Any], tensors: dict[str, Tensor], folder: Path
) -> Plans:
    """Give a model its compressed layers and tensors, and activate the constant plan.

    Args:
        model: Built from the config on the meta device; changed in place, then on the CPU.
        manifest: From :func:`~flrc.models.checkpoints.manifest.read_manifest`.
        tensors: From :func:`read_tensors`.
        folder: The checkpoint, for UserErrors if its files do not fit each other.

    Returns:
        The plans; the model can run each of them.
    """
    with blaming(folder, f"{FILE} or {CONFIG}"):
        plans = Plans.from_json(manifest["plans"])
        build_layers(model, manifest)
    _assign(model, tensors, folder)
    model.tie_weights()  # type: ignore[operator]
    model.requires_grad_(False)
    with blaming(folder, FILE):
        _check_targets(model, plans)
        for plan in [*plans.all, plans.constant]:  # raises unless the model can run it
            activate(model, plan)
    return plans


def build_layers(model: nn.Module, manifest: Mapping[str, Any]) -> None:
    """Replace the layers of a model on the meta device by the empty ones that a manifest describes.

    Raises:
        KeyError, TypeError, ValueError: If the description does not fit the model.
    """
    builder = LayerBuilder(getattr(torch, manifest["dtype"]))
    for name, spec in manifest["layers"].items():
        linear = model.get_submodule(name)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name} is not a linear layer")
        replace(model, name, builder.build(spec, linear))
    model.tie_weights()  # type: ignore[operator]


def _check_targets(model: nn.Module, plans: Plans) -> None:
    """All plans have the same targets, and every target with a rank is factored."""
    targets = {layer.target or name for name, layer in low_rank_layers(model).items()}
    for plan in plans.all:
        factored = {name for name, rank in plan.ranks.items() if rank is not None}
        odd = (plan.ranks.keys() ^ plans.constant.ranks.keys()) | (factored - targets)
        odd |= targets - plan.ranks.keys()
        if odd:
            raise ValueError(f"the plans and the layers have different targets: {min(odd)}")


def read_tensors(folder: Path, files: Iterable[str]) -> dict[str, Tensor]:
    """All tensors of the safetensors files among these; UserError if one is damaged."""
    tensors: dict[str, Tensor] = {}
    for name in sorted(name for name in files if name.endswith(".safetensors")):
        with blaming(folder, name):
            tensors |= load_file(regular(folder / name))
    return tensors


def first_names(model: nn.Module) -> dict[int, str]:
    """The first name of each stored tensor, by its identity: shared tensors are stored once."""
    names: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), name)
    return names


def misfits(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """How these tensors differ from those of a model: names, shapes and dtypes must be the same."""
    names = model.state_dict(keep_vars=True)
    stored = set(first_names(model).values())
    return [
        *(f"{name} is missing" for name in sorted(stored - tensors.keys())),
        *(f"{name} is not part of the model" for name in sorted(tensors.keys() - stored)),
        *(
            f"{name} is {tuple(tensors[name].shape)} {tensors[name].dtype}"
            for name in sorted(tensors.keys() & names.keys())
            if (tensors[name].shape, tensors[name].dtype) != (names[name].shape, names[name].dtype)
        ),
    ]


def _assign(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    """Give every parameter its tensor; UserError unless they fit exactly."""
    first = first_names(model)
    names = model.state_dict(keep_vars=True)
    sources = {name: first[id(tensor)] for name, tensor in names.items()}
    if problems := misfits(model, tensors):
        raise UserError(
            "the compressed model's tensors do not fit its description",
            given=f"{folder}: {'; '.join(problems[:3])}",
            fix=AGAIN,
        )
    model.load_state_dict({name: tensors[key] for name, key in sources.items()}, assign=True)
    for name, layer in model.named_modules():
        if isinstance(layer, PivotedLinear) and not _is_permutation(layer.order):
            raise UserError(
                "the compressed model's tensors are not valid factors",
                given=f"{folder}: {name}.order is not a permutation",
                fix=AGAIN,
            )


def _is_permutation(order: Tensor) -> bool:
    return torch.equal(order.sort().values, torch.arange(len(order), dtype=order.dtype))
