"""Checks a saved model's files before loading; of weight files it reads only the headers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.models.checkpoints.manifest import FILE, json_object
from flrc.models.checkpoints.model_files import CONFIG, INDEX, SETTINGS, model_files, weight_files
from flrc.models.sources.weight_headers import AGAIN, Header, damaged, header_of, reading

POINTER = b"version https://git-lfs"
GGUF = b"GGUF"
PICKLE = b"\x80"
"""First byte of torch files before they became zip archives."""
FLOATING = ("F64", "F32", "F16", "BF16")
CONSTANTS = ("BOOL", "I64", "C64")
"""Dtypes of masks, positions and frequencies."""
BUFFERS = re.compile(
    r"(^|\.)(\w*inv_freq|cos_cached|sin_cached|position_ids|masked_bias|causal_mask"
    r"|embed_positions\.weights"
    r"|(attn|attn\.attention|attention)\.bias)$"
)
"""Names of constants that older versions of ``transformers`` saved and newer ones compute."""
FOREIGN = {
    "adapter_config.json": "an adapter, which would be ignored",
    "adapter_model.*": "an adapter, which would be ignored",
    "shard-*-model-*-of-*.safetensors": "a checkpoint of distributed training",
    FILE: "a compressed model",
}
"""Files whose presence means that a folder is not a dense model."""
CURES = {
    FILE: "flrc.load(folder) loads it; python -m flrc.export writes the equivalent dense model",
    "shard-*-model-*-of-*.safetensors": "load it as it was trained, and save_pretrained(FOLDER)",
}
MERGE = "merge it with peft, model.merge_and_unload().save_pretrained(FOLDER), or remove it"
OBJECTS = (
    *SETTINGS, f"*{INDEX}", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""Files that hold a JSON object."""
NOTES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files in which tools record a quantization that the config does not mention."""


def inspect(folder: Path, weights: bool = True) -> Header:
    """Check every file that loading would read; returns the tensors of the weight files.

    Args:
        folder: A saved model.
        weights: Whether its weights must be present; a model from the Hub is downloaded later.

    Raises:
        UserError: If it is not a dense model, is quantized, or a file is missing, truncated or
            damaged; names the file.
    """
    check_kind(folder)
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"the model folder has no {CONFIG}",
            given=str(folder),
            allowed="a folder written by save_pretrained, or a .gguf file",
        )
    for path in model_files(folder):
        _check_content(path)
    refuse_quantized(json_object(folder / CONFIG), folder / CONFIG)
    for name in NOTES:
        if (folder / name).is_file():
            raise quantized(folder / name, "its weights are quantized")
    if not weights:
        return {}
    files = weight_files(folder)
    if not files:
        other = sorted(path.name for path in folder.glob("*.gguf"))
        raise UserError(
            "the model folder has no weights",
            given=str(folder),
            allowed="model.safetensors or pytorch_model.bin, or an index and its shards",
            fix=f"model={folder / other[0]}" if other else AGAIN,
        )
    if not files[0].name.endswith(INDEX):
        return _joined({path: header_of(path) for path in files})
    index, *shards = files
    _check_shards(index, shards)
    headers = {path: header_of(path) for path in shards}
    _check_index(index, headers)
    return _joined(headers)


def inspect_gguf(file: Path) -> None:
    """Raise UserError unless it is a GGUF file without an adapter, which would be loaded too."""
    check_kind(file.parent, ("adapter_config.json",))
    _check_content(file)
    with file.open("rb") as content:
        if content.read(len(GGUF)) != GGUF:
            raise damaged(file, "it has no GGUF header")


def check_kind(folder: Path, patterns: Iterable[str] = FOREIGN) -> None:
    """Raise UserError if a file shows that the folder is not a dense model."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            raise UserError(
                f"the model folder holds {FOREIGN[pattern]}",
                given=str(path),
                allowed="a dense model's config, weights and tokenizer",
                fix=CURES.get(pattern, MERGE),
            )


def refuse_quantized(config: Mapping[str, Any], where: object) -> None:
    """Raise UserError if a config or a config nested in it says that the weights are quantized."""
    for key, value in config.items():
        if key in ("quantization_config", "compression_config") and value:
            known = value if isinstance(value, dict) else {}
            switches = ", ".join(k for k, v in known.items() if v is True)
            raise quantized(where, f"{key}: {known.get('quant_method') or switches or value}")
        if isinstance(value, dict):
            refuse_quantized(value, where)


def quantized(where: object, why: str) -> UserError:
    """The error that says where a checkpoint shows that it is quantized."""
    return UserError(
        "the checkpoint is quantized: its weights cannot be decomposed",
        given=f"{where} ({why})",
        allowed="weights in float32, bfloat16, float16 or float64, or a GGUF file",
        fix="the checkpoint it was quantized from; or load it with transformers, "
        "model.dequantize() and model.save_pretrained(FOLDER)",
    )


def _check_content(path: Path) -> None:
    """Check that the file's content matches its name, and is not a pointer to it."""
    with reading(path):
        with path.open("rb") as file:
            start = file.read(len(POINTER))
        if start == POINTER:
            raise damaged(path, "a pointer of Git LFS, not the file itself", "git lfs pull")
        if any(fnmatchcase(path.name, pattern) for pattern in OBJECTS):
            json_object(path)
        elif path.suffix == ".jinja":
            path.read_text("utf-8")
        elif path.suffix == ".bin" and not (start.startswith(PICKLE) or zipfile.is_zipfile(path)):
            raise damaged(path, "it is not a torch archive, or an incomplete one")


def _check_shards(index: Path, files: list[Path]) -> None:
    """The index names files, and all of them are present."""
    if not files:
        raise damaged(index, "it names no files")
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise UserError(
            f"shards of the model are missing: {', '.join(missing[:5])}",
            given=f"{index}: {len(missing)} of {len(files)} are missing",
            fix="copy or download them",
        )


def _check_index(index: Path, headers: Mapping[Path, Header]) -> None:
    """Every tensor is in the file that the index names."""
    with reading(index):
        for name, file in json_object(index)["weight_map"].items():
            path = index.parent / file
            if name not in headers[path]:
                raise damaged(path, f"it lacks {name}, which {index.name} places there")


def _joined(headers: Mapping[Path, Header]) -> Header:
    """The tensors of all files: none is in two of them, and none is packed."""
    joined: Header = {}
    files: dict[str, Path] = {}
    for path, header in headers.items():
        for name, entry in header.items():
            if name in files:
                raise damaged(path, f"{name} is in {files[name].name} too", "keep one of them")
            files[name] = path
            constant = entry["dtype"] in CONSTANTS and not name.endswith(".weight")
            if len(entry["shape"]) > 1 and not (
                entry["dtype"] in FLOATING or constant or BUFFERS.search(name)
            ):
                raise quantized(path, f"{name} is {entry['dtype']}")
        joined |= header
    return joined
