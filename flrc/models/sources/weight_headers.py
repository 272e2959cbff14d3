"""Dtypes and shapes of the tensors in weight files, read from the files' headers."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.models.checkpoints.manifest import refusing

AGAIN = "copy or download the file again"
CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "bool": "BOOL", "int64": "I64", "complex64": "C64",
}  # fmt: skip
"""Names of torch's dtypes in safetensors; other dtypes keep torch's name."""

Header = dict[str, dict[str, Any]]
"""``dtype`` and ``shape`` of every tensor, by its name."""


def header_of(path: Path) -> Header:
    """The tensors of a weight file; UserError unless it is sound and holds tensors by name."""
    return _safetensors(path) if path.suffix == ".safetensors" else _torch(path)


def damaged(path: object, why: str, fix: str = AGAIN) -> UserError:
    """The error that names an unreadable file and the reason."""
    return UserError(
        f"the model's file {Path(str(path)).name} cannot be read", given=f"{path} ({why})", fix=fix
    )


def reading(path: Path) -> AbstractContextManager[None]:
    """Turn any exception into :func:`damaged`."""
    return refusing(partial(damaged, path))


def _safetensors(path: Path) -> Header:
    """The JSON header; also checks that the file has the length that it implies."""
    with reading(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise damaged(path, "it has no safetensors header, or is truncated")
            header: Header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        expected = 8 + length + max((e["data_offsets"][1] for e in header.values()), default=0)
        if size != expected:
            how = "truncated" if size < expected else "too long"
            raise damaged(path, f"it is {how}: {size} bytes of {expected}")
        return header


def _torch(path: Path) -> Header:
    """A torch file unpickled on the meta device; only zip archives can be memory-mapped."""
    import torch

    with reading(path):
        archive = zipfile.is_zipfile(path)
        content = torch.load(str(path), map_location="meta", weights_only=True, mmap=archive)
        if not isinstance(content, Mapping):
            raise damaged(path, f"it holds a {type(content).__name__}, not tensors by name")
        for name, value in content.items():
            if isinstance(value, Mapping):
                fix = "save_pretrained(FOLDER) where it was trained"
                raise damaged(path, f"it is a training checkpoint: {name} is a dictionary", fix)
        return {str(name): _entry(value) for name, value in content.items()}


def _entry(value: Any) -> dict[str, Any]:
    """A value that is not a tensor counts as one number of its type."""
    dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    return {"dtype": CODES.get(dtype, dtype), "shape": list(getattr(value, "shape", ()))}
