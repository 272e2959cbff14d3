"""A compressed model on disk: safetensors and JSON, nothing that has to be executed.

A folder holds what ``transformers`` writes for any model (config, tokenizer, generation settings,
safetensors, in shards if they are large), ``flrc.json`` with the layers, the plans and the digest
of every file, and ``modeling_flrc.py`` for loading it without this package.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import save_torch_state_dict

from flrc.core import jsonfile
from flrc.core.commands import as_called
from flrc.core.dtypes import DTYPES
from flrc.core.library_output import without_reports
from flrc.errors import UserError, choose
from flrc.models.checkpoints import standalone_code
from flrc.models.checkpoints.assembly import build_layers, first_names, misfits
from flrc.models.checkpoints.layer_specs import layer_spec
from flrc.models.checkpoints.manifest import (
    CONFIG,
    FILE,
    FORMAT,
    TOKENIZER,
    blaming,
    json_object,
    listed,
    manifest_digest,
)
from flrc.models.checkpoints.save_folder import replacing
from flrc.models.checkpoints.vocabulary import check_vocabulary
from flrc.models.layers.compressed_layers import compressed_layers
from flrc.plans.run_plans import Plans

if TYPE_CHECKING:
    from torch import Tensor
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
        loaded: From :func:`flrc.compress` or :func:`flrc.load`; quantized or not.
        folder: Where to; an older checkpoint is replaced as a whole.

    Raises:
        UserError: If the folder holds anything but an older checkpoint, or the model has tensors
            that could not be loaded again; nothing is changed then.
    """
    with replacing(folder) as unfinished:
        _write(loaded, unfinished)


def _write(loaded: Loaded, folder: Path) -> None:
    model = loaded.model
    _write_config(model, folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    names, tensors = first_names(model), model.state_dict()
    kept = {name: tensors[name].contiguous() for name in names.values()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "dtype": choose("dtype", str(model.dtype).removeprefix("torch."), DTYPES),
        "layers": {n: layer_spec(layer, names) for n, layer in compressed_layers(model).items()},
        "plans": loaded.plans.to_json(),
    }
    _check_loads(folder, manifest, kept)
    with without_reports(save_torch_state_dict):
        save_torch_state_dict(kept, str(folder), safe_serialization=True)
    code = folder / standalone_code.NAME
    code.write_text(standalone_code.source(), "utf-8")
    manifest["files"] = listed(folder)
    jsonfile.write(folder / FILE, manifest | {"digest": manifest_digest(manifest)})
    for path in folder.iterdir():  # safetensors ignores the umask: only the owner could read
        shutil.copymode(code, path)


def _check_loads(folder: Path, manifest: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise UserError if loading would refuse these tensors; only the config is written so far."""
    from flrc.models.checkpoints.huggingface import empty, read_config

    dtype = manifest["dtype"]
    blank = empty(read_config(folder), getattr(torch, dtype))
    build_layers(blank, manifest)
    if problems := misfits(blank, tensors):
        raise UserError(
            "the model could not be loaded again: its tensors are not those that were compressed",
            given="; ".join(problems[:3]),
            allowed=f"one dtype for the whole model, which is {dtype}; scales of int8 stay float32",
            fix=f"model.to(torch.{dtype})",
        )


def _write_config(model: PreTrainedModel, folder: Path) -> None:
    """The base's config under the model type of compressed models, with the place of their code."""
    from flrc.models.checkpoints.huggingface import BASE, MODEL_TYPE

    # The values as transformers serializes them (integer keys, nested configs, infinity), in the
    # order in which it holds them.
    serialized = json.loads(model.config.to_json_string())
    fields = {key: serialized[key] for key in model.config.to_diff_dict()}
    if fields["model_type"] != MODEL_TYPE:
        fields[BASE] = fields["model_type"]
    module = standalone_code.NAME.removesuffix(".py")
    fields |= {
        "model_type": MODEL_TYPE,
        "architectures": ["FlrcForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{module}.FlrcConfig",
            "AutoModelForCausalLM": f"{module}.FlrcForCausalLM",
        },
    }
    jsonfile.write(folder / CONFIG, fields)


def load(folder: Path, device: torch.device) -> Loaded:
    """Read what :func:`save` wrote; executes and unpickles nothing.

    Raises:
        UserError: If the folder is not a checkpoint, its files do not fit each other, or the model
            cannot run a forward step.
    """
    from transformers import AutoTokenizer

    from flrc.models.checkpoints.huggingface import FlrcForCausalLM

    if folder.is_file():
        raise UserError(
            "a compressed model is loaded by its folder, and this is a file",
            given=str(folder),
            fix=str(folder.parent),
        )
    if not folder.is_dir():
        raise UserError(
            "there is no such folder",
            given=str(folder),
            allowed="the folder of a run with model.save=true, or one that flrc.save has written",
            fix=f"{as_called('records')} ls shows the runs",
        )
    model = FlrcForCausalLM.from_pretrained(folder, device_map=device)
    with blaming(folder, f"tokenizer.json or {TOKENIZER}"):
        json_object(folder / TOKENIZER)
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=model.config, trust_remote_code=False, local_files_only=True
        )
        check_vocabulary(tokenizer, folder)
    with blaming(folder, CONFIG), torch.no_grad():
        # Caches and masks read fields of the config that nothing has validated so far.
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device)).logits.shape  # noqa: B018
    return Loaded(model, tokenizer, model.plans)
