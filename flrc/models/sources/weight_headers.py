"""What the files of weights hold, by name: dtypes and shapes from their headers alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.models.checkpoints.manifest import reason

AGAIN = "copy or download the file again"
CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "bool": "BOOL", "int64": "I64", "complex64": "C64",
}  # fmt: skip
"""What safetensors calls dtypes of torch; others keep their name."""

Header = dict[str, dict[str, Any]]
"""``dtype`` and ``shape`` of every tensor, by its name."""


def header_of(path: Path) -> Header:
    """The tensors that a file of weights holds.

    Raises:
        UserError: If it cannot be read, or holds something other than tensors by name.
    """
    return _safetensors(path) if path.suffix == ".safetensors" else _torch(path)


def damaged(path: object, why: str, fix: str = AGAIN) -> UserError:
    """The error that names a file and what is wrong with it."""
    return UserError(
        f"the model's file {Path(str(path)).name} cannot be read", given=f"{path} ({why})", fix=fix
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is raised is the fault of this file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers raise what they like
        raise damaged(path, reason(error)) from error


def _safetensors(path: Path) -> Header:
    """As the file begins; its length is the one that is said there."""
    with reading(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= size - 8:
                raise damaged(path, "it does not begin as safetensors files do, or is truncated")
            header: Header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        whole = 8 + length + max((e["data_offsets"][1] for e in header.values()), default=0)
        if size != whole:
            how = "truncated" if size < whole else "too long"
            raise damaged(path, f"it is {how}: {size} bytes of {whole}")
        return header


def _torch(path: Path) -> Header:
    """As torch unpickles it without the numbers; older files are no archives to map."""
    import torch

    with reading(path):
        archive = zipfile.is_zipfile(path)
        held = torch.load(str(path), map_location="meta", weights_only=True, mmap=archive)
        if not isinstance(held, Mapping):
            raise damaged(path, f"it holds a {type(held).__name__}, no tensors by name")
        for name, value in held.items():
            if isinstance(value, Mapping):
                fix = "save_pretrained(FOLDER) where it was trained"
                raise damaged(path, f"it is a training checkpoint: {name} holds more names", fix)
        return {str(name): _entry(value) for name, value in held.items()}


def _entry(value: Any) -> dict[str, Any]:
    """A value that is no tensor counts as one number of its type."""
    dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    return {"dtype": CODES.get(dtype, dtype), "shape": list(getattr(value, "shape", ()))}
