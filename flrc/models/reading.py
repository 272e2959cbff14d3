"""Reads a checkpoint's description and tensors into a model; executes and unpickles nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flrc.allocator.plans import Plans
from flrc.errors import UserError
from flrc.models.description import Built
from flrc.models.integrity import AGAIN, check_files
from flrc.models.lowrank import replace
from flrc.models.switching import activate
from flrc.records.jsonfile import digest, read

FILE = "flrc.json"
FORMAT = 3
"""Version of the layout."""
READABLE = (2, FORMAT)
"""2 lists no files, so that only what does not fit together is noticed."""


def read_description(folder: Path) -> dict[str, Any]:
    """What ``flrc.json`` says of a checkpoint, once the files are what it says.

    Raises:
        UserError: If the folder is no checkpoint, or a file is not what was saved.
    """
    path = folder / FILE
    try:
        description: dict[str, Any] = read(path)
        if description["format"] not in READABLE:
            raise ValueError(f"format {description['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"this is no compressed model: {path.name} cannot be read",
            given=f"{folder} ({type(error).__name__}: {error})",
            allowed=f"a folder that a run with model.save=true has written (format {FORMAT})",
            fix="python run.py method=flrc rate=0.2 model.save=true",
        ) from error
    with describing(folder):
        if description["format"] > 2:
            if description["digest"] != described_digest(description):
                raise ValueError("its digest is not its content's")
            check_files(folder, description["files"])
        getattr(torch, description["dtype"]).itemsize  # noqa: B018  a dtype
    return description


def described_digest(description: dict[str, Any]) -> str:
    """Digest of all that a description says but for the digest itself."""
    return digest({k: v for k, v in description.items() if k != "digest"}, 64)


@contextmanager
def describing(folder: Path) -> Iterator[None]:
    """Whatever is wrong with the description is the checkpoint's fault, and is told as that."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise UserError(
            "the compressed model's description is damaged",
            given=f"{folder / FILE} ({type(e).__name__}: {(str(e).splitlines() or [''])[0]})",
            fix=AGAIN,
        ) from e


def fill(model: nn.Module, description: dict[str, Any], folder: Path) -> Plans:
    """Give a model its compressed layers, its tensors, and the constant plan.

    Args:
        model: As its config says, on the meta device; changed in place, then on the CPU.
        description: From :func:`read_description`.
        folder: The checkpoint.

    Returns:
        The plans, each of which the model can run.

    Raises:
        UserError: If the files do not fit each other.
    """
    with describing(folder):
        plans = Plans.from_json(description["plans"])
        built = Built(getattr(torch, description["dtype"]))
        for name, layer in description["layers"].items():
            linear = model.get_submodule(name)
            if not isinstance(linear, nn.Linear):
                raise TypeError(f"{name} is no linear layer")
            replace(model, name, built.layer(layer, linear))
    model.tie_weights()  # type: ignore[operator]
    _assign(model, _tensors(folder, description.get("files")), folder)
    model.tie_weights()  # type: ignore[operator]
    model.requires_grad_(False)
    with describing(folder):
        for plan in plans.all:  # each of them can be run
            activate(model, plan)
        activate(model, plans.constant)
    return plans


def _tensors(folder: Path, files: Iterable[str] | None) -> dict[str, Tensor]:
    """All tensors of the checkpoint's safetensors files."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    names = [path.name for path in folder.iterdir()] if files is None else files
    found: dict[str, Tensor] = {}
    for name in sorted(name for name in names if name.endswith(".safetensors")):
        try:
            found |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"the compressed model's file {name} is damaged",
                given=f"{folder} ({error})",
                fix=AGAIN,
            ) from error
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
