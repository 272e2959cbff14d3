"""A compressed model on disk: safetensors, JSON, and nothing that has to be executed.

A folder holds what ``transformers`` writes for any model (config, tokenizer, generation settings,
safetensors, sharded where they are large) and ``flrc.json``: how targets are built, the plans, and
the digest of every file. ``modeling_flrc.py`` beside them is for whoever loads the folder without
this package.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from flrc.allocator.plans import Plans
from flrc.models import modelling_file
from flrc.models.description import compressed_layers, described
from flrc.models.integrity import listed
from flrc.models.reading import FILE, FORMAT, described_digest
from flrc.records import jsonfile

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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


def save(loaded: Loaded, folder: str | Path) -> None:
    """Write a compressed model for :func:`flrc.load` and ``AutoModelForCausalLM``.

    Args:
        loaded: From :func:`flrc.compress` or :func:`flrc.load`; quantised or not.
        folder: Where to; it appears whole, in place of an older one.
    """
    from huggingface_hub import save_torch_state_dict

    folder = Path(folder).expanduser()
    model, plans = loaded.model, loaded.plans
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write_config(model, unfinished)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(unfinished)
    loaded.tokenizer.save_pretrained(unfinished)
    names, tensors = _names(model), model.state_dict()
    kept = {name: tensors[name].contiguous() for name in names.values()}
    save_torch_state_dict(kept, str(unfinished), safe_serialization=True)
    layers = {name: described(layer, names) for name, layer in compressed_layers(model)}
    (unfinished / modelling_file.NAME).write_text(modelling_file.source(), "utf-8")
    description = {
        "format": FORMAT,
        "dtype": str(model.dtype).removeprefix("torch."),
        "layers": layers,
        "plans": plans.to_json(),
        "files": listed(unfinished),
    }
    digest = described_digest(description)
    jsonfile.write(unfinished / FILE, description | {"digest": digest})
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _names(model: nn.Module) -> dict[int, str]:
    """Address of each stored tensor, and the first name it goes by: shared ones are stored once."""
    found: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), name)
    return found


def _write_config(model: PreTrainedModel, folder: Path) -> None:
    """The base's config under the type of compressed models, and where their code is."""
    from flrc.models.huggingface import BASE, MODEL_TYPE

    fields = model.config.to_diff_dict()
    if fields["model_type"] != MODEL_TYPE:
        fields[BASE] = fields["model_type"]
    module = modelling_file.NAME.removesuffix(".py")
    fields |= {
        "model_type": MODEL_TYPE,
        "architectures": ["FlrcForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{module}.FlrcConfig",
            "AutoModelForCausalLM": f"{module}.FlrcForCausalLM",
        },
    }
    jsonfile.write(folder / "config.json", fields)


def load(folder: Path, device: torch.device) -> Loaded:
    """Read what :func:`save` wrote; no code is executed and nothing is unpickled.

    Args:
        folder: The checkpoint.
        device: Where the model goes.

    Raises:
        UserError: If the folder is no checkpoint, or its files do not fit each other.
    """
    from transformers import AutoTokenizer

    from flrc.models.huggingface import FlrcForCausalLM

    model = FlrcForCausalLM.from_pretrained(folder).to(device)  # type: ignore[arg-type]
    return Loaded(model, AutoTokenizer.from_pretrained(folder), model.plans)
