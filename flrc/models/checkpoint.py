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
from flrc.models.dense import DenseLinear
from flrc.models.factored import FactoredLinear
from flrc.models.int8_rows import Int8Rows
from flrc.models.lowrank import LowRankLinear, replace
from flrc.models.pivoted import PivotedLinear
from flrc.models.rows import FloatRows, Rows
from flrc.models.separate import SeparateLinear
from flrc.models.shared import SharedProduct
from flrc.models.surgery import activate
from flrc.records import jsonfile
from flrc.schedule.base import Phase

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.models.targets import Target

FILE = "flrc.json"
FORMAT = 2
"""Version of the layout; 1 had no exponents beside 8-bit rows."""
_LAYERS: dict[str, type[nn.Module]] = {
    "low_rank": LowRankLinear,
    "pivoted": PivotedLinear,
    "dense": DenseLinear,
    "separate": SeparateLinear,
}
_ROWS: dict[str, type[FloatRows | Int8Rows]] = {"float": FloatRows, "int8": Int8Rows}


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
        name: _described(model.get_submodule(name), names)
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


def _described(layer: nn.Module, names: dict[int, str]) -> dict[str, Any] | None:
    """How a layer is built again; None for one that is as the config says."""
    if isinstance(layer, nn.Linear):
        return None
    kind = next(kind for kind, built in _LAYERS.items() if type(layer) is built)
    rows = {
        child: {
            "kind": next(k for k, built in _ROWS.items() if type(held) is built),
            "count": held.count,
            "width": held.width,
            "tensor": names[id(next(held.parameters()))].rpartition(".")[0],
            **({"fine": len(held.remainder)} if isinstance(held, Int8Rows) else {}),
        }
        for child, held in layer.named_children()
        if isinstance(held, Rows)
    }
    described: dict[str, Any] = {"kind": kind, "rows": rows, "bias": layer.bias is not None}
    if isinstance(layer, FactoredLinear):
        described |= {"target": layer.target, "shared": layer.shared is not None}
    if isinstance(layer, PivotedLinear):
        described["order"] = names[id(layer.order)]
    if isinstance(layer, SeparateLinear):
        described["layers"] = {rank: _described(one, names) for rank, one in layer.layers.items()}
    return described


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

    described = _read(folder)
    config = AutoConfig.from_pretrained(folder)
    with _describing(folder):
        dtype = getattr(torch, described["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"{described['dtype']} is no dtype")
        plans = _plans(described["plans"])
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    built = _Built(dtype)
    with _describing(folder):
        for name, layer in described["layers"].items():
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
        described = jsonfile.read(path)
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"this is no compressed model: {path.name} cannot be read",
            given=f"{folder} ({type(error).__name__}: {error})",
            allowed=f"a folder that a run with model.save=true has written (format {FORMAT})",
            fix="python run.py method=flrc rate=0.2 model.save=true",
        ) from error
    found: dict[str, Any] = described
    return found


class _Built:
    """Empty layers of the right kinds and sizes; what layers share is made once."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.rows: dict[str, Rows] = {}
        self.orders: dict[str, Tensor] = {}
        self.groups: dict[int, SharedProduct] = {}

    def layer(self, layer: dict[str, Any], linear: nn.Linear) -> nn.Module:
        """In place of a dense layer of the same widths."""
        rows = {child: self._rows(held) for child, held in layer["rows"].items()}
        bias = self._empty(linear.out_features) if layer["bias"] else None
        if layer["kind"] == "dense":
            return DenseLinear(rows["weight"], bias)
        weight = rows.get("weight")
        built: FactoredLinear
        if layer["kind"] == "separate":
            parts = {int(rank): self.layer(one, linear) for rank, one in layer["layers"].items()}
            built = SeparateLinear(parts, bias, weight)  # type: ignore[arg-type]
        elif layer["kind"] == "pivoted":
            order = torch.empty(linear.in_features, dtype=torch.int32, device="meta")
            order = self.orders.setdefault(layer["order"], order)
            shared = self._group(layer, rows["coefficients"])
            built = PivotedLinear(rows["left_t"], rows["coefficients"], order, bias, weight, shared)
        else:
            shared = self._group(layer, rows["right"])
            built = LowRankLinear(rows["left_t"], rows["right"], bias, weight, shared)
        if (built.in_features, built.out_features) != (linear.in_features, linear.out_features):
            raise ValueError(f"{built} stands for {linear}")
        built.target = layer["target"]
        return built

    def _group(self, layer: dict[str, Any], input_rows: Rows) -> SharedProduct | None:
        """Of the layers that hold the same rows on the input side."""
        if not layer["shared"]:
            return None
        shared = self.groups.setdefault(id(input_rows), SharedProduct(0))
        shared.members += 1
        return shared

    def _rows(self, held: dict[str, Any]) -> Rows:
        if held["tensor"] not in self.rows:
            empty = self._empty(held["count"], held["width"])
            self.rows[held["tensor"]] = (
                Int8Rows(empty, held["fine"]) if held["kind"] == "int8" else FloatRows(empty)
            )
        return self.rows[held["tensor"]]

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=self.dtype, device="meta")


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
