"""The files of a checkpoint: which belong to it, and whether they are what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flrc.errors import UserError

AGAIN = "copy the folder again, or save the model again: model.save=true"


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file in a folder, by its name."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare a folder with :func:`listed`.

    Files that are not listed do not belong to the checkpoint and are not looked at.

    Raises:
        UserError: If a file is missing, truncated or changed, or a name leads out of the folder;
            names the file and what is wrong with it.
    """

    def refuse(name: str, reason: str) -> UserError:
        return UserError(
            f"the compressed model's file {name} {reason}", given=str(folder), fix=AGAIN
        )

    for name, known in files.items():
        if name != Path(name).name or name in ("", ".", ".."):
            raise refuse(repr(name), "is not in its folder")
        path = folder / name
        if not path.is_file():
            raise refuse(name, "is missing")
        size, wanted = path.stat().st_size, known["bytes"]
        if size != wanted:
            how = "is truncated" if size < wanted else "has grown"
            raise refuse(name, f"{how}: {size} bytes of {wanted}")
        if digest_of(path) != known["sha256"]:
            raise refuse(name, "was changed: its SHA-256 is not the one it was saved with")
