"""A compressed model on disk: safetensors, JSON, and nothing that has to be executed.

A folder holds what ``transformers`` writes for any model (config, tokenizer, generation settings,
safetensors, sharded where they are large) and ``flrc.json``: how targets are built, and the plans.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flrc.allocator.plan import RankPlan
from flrc.allocator.planning import Plans
from flrc.errors import UserError
from flrc.models.description import Built, described
from flrc.models.lowrank import replace
from flrc.models.surgery import activate
from flrc.records import jsonfile
from flrc.schedule.base import Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.models.targets import Target

FILE = "flrc.json"
FORMAT = 2
"""Version of the layout; 1 had no exponents beside 8-bit rows."""


@dataclass(frozen=True)
class Loaded:
    """A compressed model, ready to generate.

    Attributes:
        model: On its device, its constant plan active.
        tokenizer: Its tokenizer.
        plans: The constant plan, and those of the schedule's phases.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    plans: Plans


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    targets: Sequence[Target],
    plans: Plans,
    folder: Path,
) -> None:
    """Write a compressed model; the folder appears whole, in place of an older one.

    Args:
        model: Compressed, quantised or not.
        tokenizer: Its tokenizer.
        targets: What was compressed.
        plans: What it can run.
        folder: Where to.
    """
    from huggingface_hub import save_torch_state_dict

    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    model.config.save_pretrained(unfinished)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    names, tensors = _names(model), model.state_dict()
    kept = {name: tensors[name].contiguous() for name in names.values()}
    save_torch_state_dict(kept, str(unfinished), safe_serialization=True)
    layers = {
        name: described(model.get_submodule(name), names)
        for name in (layer.name for target in targets for layer in target.layers)
    }
    jsonfile.write(
        unfinished / FILE,
        {
            "format": FORMAT,
            "dtype": str(model.dtype).removeprefix("torch."),
            "layers": {name: layer for name, layer in layers.items() if layer is not None},
            "plans": plans.to_json(),
        },
    )
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _names(model: nn.Module) -> dict[int, str]:
    """Address of each stored tensor, and the first name it goes by: shared ones are stored once."""
    found: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), name)
    return found


def load(folder: Path, device: torch.device) -> Loaded:
    """Read what :func:`save` wrote; no code is executed and nothing is unpickled.

    Args:
        folder: The checkpoint.
        device: Where the model goes.

    Raises:
        UserError: If the folder is no checkpoint, or its files do not fit each other.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    description = _read(folder)
    config = AutoConfig.from_pretrained(folder)
    with _describing(folder):
        dtype = getattr(torch, description["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"{description['dtype']} is no dtype")
        plans = _plans(description["plans"])
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    built = Built(dtype)
    with _describing(folder):
        for name, layer in description["layers"].items():
            linear = model.get_submodule(name)
            if not isinstance(linear, nn.Linear):
                raise TypeError(f"{name} is no linear layer")
            replace(model, name, built.layer(layer, linear))
    model.tie_weights()
    _fill(model, _tensors(folder), folder)
    model.tie_weights()
    model.requires_grad_(False)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.eval().to(device)  # type: ignore[arg-type]
    with _describing(folder):
        for plan in plans.all:  # each of them can be run
            activate(model, plan)
        activate(model, plans.constant)
    return Loaded(model, AutoTokenizer.from_pretrained(folder), plans)


@contextmanager
def _describing(folder: Path) -> Iterator[None]:
    """Whatever is wrong with the description is the checkpoint's fault, and is told as that."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise UserError(
            "the compressed model's description is damaged",
            given=f"{folder / FILE} ({type(e).__name__}: {(str(e).splitlines() or [''])[0]})",
            fix="save the model again: model.save=true",
        ) from e


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    try:
        description = jsonfile.read(path)
        if description["format"] != FORMAT:
            raise ValueError(f"format {description['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"this is no compressed model: {path.name} cannot be read",
            given=f"{folder} ({type(error).__name__}: {error})",
            allowed=f"a folder that a run with model.save=true has written (format {FORMAT})",
            fix="python run.py method=flrc rate=0.2 model.save=true",
        ) from error
    found: dict[str, Any] = description
    return found


def _tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors files."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise UserError(
                "a file of the compressed model is damaged", given=f"{file} ({error})"
            ) from error
    return found


def _fill(model: PreTrainedModel, tensors: dict[str, Tensor], folder: Path) -> None:
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
        )
    model.load_state_dict({name: tensors[key] for name, key in wanted.items()}, assign=True)


def _plans(values: dict[str, Any]) -> Plans:
    phases = [
        (
            Phase(phase.get("begin", 0.0), phase["rate"], phase.get("step")),
            RankPlan.from_json(phase["plan"]),
        )
        for phase in values["phases"]
    ]
    return Plans(RankPlan.from_json(values["constant"]), phases, values.get("candidates", []))
