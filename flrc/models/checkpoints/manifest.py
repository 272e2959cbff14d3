"""A checkpoint's description, and whether the files beside it are what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flrc.core.dtypes import DTYPES
from flrc.core.jsonfile import digest, read
from flrc.errors import UserError

FILE = "flrc.json"
CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER = "tokenizer_config.json"
FORMAT = 3
"""Version of the layout."""
READABLE = (2, FORMAT)
"""2 lists no files, so that only what does not fit together is noticed."""
HARMLESS = ("", ".md", ".png", ".jpg", ".svg")
"""Endings of files that nothing reads a model from: they may lie there without being listed."""
AGAIN = "copy the folder again, or save the model again: the run's command and model.save=true"


def read_description(folder: Path) -> dict[str, Any]:
    """What ``flrc.json`` says of a checkpoint, once the files are what it says.

    Raises:
        UserError: If the folder is no checkpoint, or a file is not what was saved.
    """
    try:
        description: dict[str, Any] = read(regular(folder / FILE))
        if description["format"] not in READABLE:
            raise ValueError(f"format {description['format']!r}")
    except Exception as error:  # whatever the content makes of the parser
        raise UserError(
            f"this is no compressed model: {FILE} cannot be read",
            given=f"{folder} ({reason(error)})",
            allowed=f"a folder that a run with model.save=true has written (format {FORMAT})",
            fix="python run.py method=flrc rate=0.2 model.save=true",
        ) from error
    with blaming(folder, FILE):
        if description["format"] > 2:
            if description["digest"] != described_digest(description):
                raise ValueError("its digest is not its content's")
            check_files(folder, description["files"])
        if description["dtype"] not in DTYPES:
            raise ValueError(f"dtype {description['dtype']!r}")
    return description


def described_digest(description: dict[str, Any]) -> str:
    """Digest of all that a description says but for the digest itself."""
    return digest({k: v for k, v in description.items() if k != "digest"}, 64)


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

    Loaders obey many files if only they are there (templates, maps of tokens, other weights), so
    whatever is not listed is refused, but for hidden files and those that are :data:`HARMLESS`.

    Raises:
        UserError: If a file is missing, truncated or changed, is there and not listed, or a name
            leads out of the folder; names the file and what is wrong with it.
    """

    def refuse(name: str, why: str, fix: str = AGAIN) -> UserError:
        return UserError(f"the compressed model's file {name} {why}", given=str(folder), fix=fix)

    for name in (CONFIG, TOKENIZER):
        if name not in files:
            raise refuse(name, f"is not listed in {FILE}")
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
    for path in sorted(folder.iterdir()):
        harmless = path.name.startswith(".") or (path.is_file() and path.suffix in HARMLESS)
        if path.name not in (FILE, *files) and not harmless:
            raise refuse(path.name, f"is not listed in {FILE}: it was not saved there", "remove it")


def regular(path: Path) -> Path:
    """The path of a file that can be read to its end: no folder, no pipe, no device.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing, or no file")
    return path


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it holds another value.
        ValueError: If it holds no JSON.
    """
    values = json.loads(regular(path).read_text("utf-8"))
    if not isinstance(values, dict):
        raise TypeError(f"{path.name} holds a {type(values).__name__}")
    return values


@contextmanager
def blaming(folder: Path, name: str) -> Iterator[None]:
    """Whatever is raised is the fault of a checkpoint's file, and is told as that.

    Parsers of other packages raise what they like, ``Exception`` itself among it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the compressed model's file {name} is damaged",
            given=f"{folder} ({reason(error)})",
            fix=AGAIN,
        ) from error


def reason(error: Exception) -> str:
    """Kind and first line of an error, and the second where the first announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{type(error).__name__}: {told}"
