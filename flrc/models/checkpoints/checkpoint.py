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
from typing import TYPE_CHECKING

import torch
from huggingface_hub import save_torch_state_dict

from flrc.core import jsonfile
from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.models.checkpoints import standalone_code
from flrc.models.checkpoints.assembly import first_names
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
        UserError: If the folder holds anything but an older checkpoint; nothing is changed then.
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
    save_torch_state_dict(kept, str(folder), safe_serialization=True)
    layers = {name: layer_spec(layer, names) for name, layer in compressed_layers(model).items()}
    code = folder / standalone_code.NAME
    code.write_text(standalone_code.source(), "utf-8")
    manifest = {
        "format": FORMAT,
        "dtype": str(model.dtype).removeprefix("torch."),
        "layers": layers,
        "plans": loaded.plans.to_json(),
        "files": listed(folder),
    }
    jsonfile.write(folder / FILE, manifest | {"digest": manifest_digest(manifest)})
    for path in folder.iterdir():  # safetensors ignores the umask: only the owner could read
        shutil.copymode(code, path)


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
