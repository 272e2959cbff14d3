"""Reads a checkpoint's description and tensors into a model; executes and unpickles nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flrc.errors import UserError
from flrc.models.checkpoints.layer_specs import Built
from flrc.models.checkpoints.manifest import AGAIN, CONFIG, FILE, blaming, regular
from flrc.models.layers.compressed_layers import low_rank_layers, replace
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.layers.switching import activate
from flrc.plans.run_plans import Plans


def fill(
    model: nn.Module, description: dict[str, Any], tensors: dict[str, Tensor], folder: Path
) -> Plans:
    """Give a model its compressed layers, its tensors, and the constant plan.

    Args:
        model: As its config says, on the meta device; changed in place, then on the CPU.
        description: From :func:`~flrc.models.checkpoints.manifest.read_description`.
        tensors: From :func:`read_tensors`.
        folder: The checkpoint.

    Returns:
        The plans, each of which the model can run.

    Raises:
        UserError: If the files do not fit each other.
    """
    with blaming(folder, f"{FILE} or {CONFIG}"):
        plans = Plans.from_json(description["plans"])
        built = Built(getattr(torch, description["dtype"]))
        for name, layer in description["layers"].items():
            linear = model.get_submodule(name)
            if not isinstance(linear, nn.Linear):
                raise TypeError(f"{name} is no linear layer")
            replace(model, name, built.layer(layer, linear))
        model.tie_weights()  # type: ignore[operator]
    _assign(model, tensors, folder)
    model.tie_weights()  # type: ignore[operator]
    model.requires_grad_(False)
    with blaming(folder, FILE):
        _check_ranks(model, plans)
        for plan in plans.all:  # each of them can be run
            activate(model, plan)
        activate(model, plans.constant)
    return plans


def _check_ranks(model: nn.Module, plans: Plans) -> None:
    """All plans are of the same targets, and what they give a rank is factored."""
    targets = {layer.target or name for name, layer in low_rank_layers(model).items()}
    for plan in plans.all:
        factored = {name for name, rank in plan.ranks.items() if rank is not None}
        odd = (plan.ranks.keys() ^ plans.constant.ranks.keys()) | (factored - targets)
        odd |= targets - plan.ranks.keys()
        if odd:
            raise ValueError(f"the plans' targets differ from the layers' at {min(odd)}")


def read_tensors(folder: Path, files: Iterable[str]) -> dict[str, Tensor]:
    """All tensors of the checkpoint's safetensors files.

    Args:
        folder: The checkpoint.
        files: Names of its files.

    Raises:
        UserError: If a file is damaged.
    """
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for name in sorted(name for name in files if name.endswith(".safetensors")):
        with blaming(folder, name):
            found |= load_file(regular(folder / name))
    return found


def _assign(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    """Give every parameter its tensor; names and shapes must agree exactly."""
    names = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in names.items():
        first.setdefault(id(tensor), name)
    wanted = {name: first[id(tensor)] for name, tensor in names.items()}
    missing = sorted(set(wanted.values()) - set(tensors))
    unknown = sorted(set(tensors) - set(wanted.values()))
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} {tensors[name].dtype}"
        for name in sorted(set(tensors) & set(names))
        if (tensors[name].shape, tensors[name].dtype) != (names[name].shape, names[name].dtype)
    ]
    problems = [
        *(f"{name} is missing" for name in missing),
        *(f"{name} is not part of the model" for name in unknown),
        *wrong,
    ]
    if problems:
        raise UserError(
            "the compressed model's tensors do not fit its description",
            given=f"{folder}: {'; '.join(problems[:3])}",
            fix=AGAIN,
        )
    model.load_state_dict({name: tensors[key] for name, key in wanted.items()}, assign=True)
    for name, layer in model.named_modules():
        if isinstance(layer, PivotedLinear):
            order = layer.order.sort().values
            if not torch.equal(order, torch.arange(len(order), dtype=order.dtype)):
                raise UserError(
                    "the compressed model's tensors are no factors",
                    given=f"{folder}: {name}.order is no permutation",
                    fix=AGAIN,
                )
