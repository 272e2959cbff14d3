"""A checkpoint's manifest ``flrc.json``, and checks of the files (part of ``modeling_flrc.py``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
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
"""Version of the layout; the only one that is read."""
HARMLESS = ("", ".md", ".png", ".jpg", ".svg")
"""Suffixes of files that no loader reads; they need not be listed."""
RECORD = "flrc_record.json"
UNLISTED = (FILE, RECORD)
"""Files that are not listed: the manifest, and the run's record, which is complete only later."""
AGAIN = "copy the folder again, or save the model again: the run's command and model.save=true"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of ``flrc.json``, after comparing the folder's files with it.

    Raises:
        UserError: If the folder is not a checkpoint of :data:`FORMAT`, or a file was changed.
    """
    allowed = f"a folder that a run with model.save=true has written (format {FORMAT})"
    fix = "python run.py method=flrc rate=0.2 model.save=true"
    problem = f"not a compressed model: {FILE} cannot be read"
    with refusing(
        lambda why: UserError(problem, given=f"{folder} ({why})", allowed=allowed, fix=fix)
    ):
        manifest: dict[str, Any] = read(regular(folder / FILE))
        version = manifest["format"]
    if version != FORMAT:
        raise UserError(
            "the compressed model was saved in a format that is not supported",
            given=f"{folder / FILE}: format {version!r}",
            allowed=allowed,
            fix=fix,
        )
    with blaming(folder, FILE):
        if manifest["digest"] != manifest_digest(manifest):
            raise ValueError("its content does not match its digest")
        check_files(folder, manifest["files"])
        if manifest["dtype"] not in DTYPES:
            raise ValueError(f"dtype {manifest['dtype']!r}")
    return manifest


def manifest_digest(manifest: dict[str, Any]) -> str:
    """Digest of a manifest without its ``digest`` entry."""
    return digest({k: v for k, v in manifest.items() if k != "digest"}, 64)


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file in a folder, by its name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)} for path in files}


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare a folder with :func:`listed`.

    Many files affect loading by being present (templates, token maps, other weights). Files that
    are not listed are therefore refused, except hidden and :data:`HARMLESS` ones.

    Raises:
        UserError: If a file is missing, truncated, changed or not listed, or a listed name leads
            out of the folder; names the file and the reason.
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
        size, expected = path.stat().st_size, known["bytes"]
        if size != expected:
            how = "is truncated" if size < expected else "has grown"
            raise refuse(name, f"{how}: {size} bytes of {expected}")
        if digest_of(path) != known["sha256"]:
            raise refuse(name, "was changed: its SHA-256 differs from the one in the manifest")
    for path in sorted(folder.iterdir()):
        harmless = path.name.startswith(".") or (path.is_file() and path.suffix in HARMLESS)
        if path.name not in (*UNLISTED, *files) and not harmless:
            raise refuse(path.name, f"is not listed in {FILE}: it was added later", "remove it")


def regular(path: Path) -> Path:
    """The path of a regular file: not a folder, a pipe or a device, which could block."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing, or not a regular file")
    return path


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileNotFoundError, TypeError, ValueError: If there is none.
    """
    values = json.loads(regular(path).read_text("utf-8"))
    if not isinstance(values, dict):
        raise TypeError(f"{path.name} holds a {type(values).__name__}")
    return values


@contextmanager
def refusing(refusal: Callable[[str], UserError]) -> Iterator[None]:
    """Turn any exception into the UserError that this function makes of its reason."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers of other packages raise many kinds of errors
        raise refusal(reason(error)) from error


def blaming(folder: Path, name: str) -> AbstractContextManager[None]:
    """Turn any exception into a UserError that names this file of the checkpoint as damaged."""
    problem = f"the compressed model's file {name} is damaged"
    return refusing(lambda why: UserError(problem, given=f"{folder} ({why})", fix=AGAIN))


def reason(error: Exception) -> str:
    """Kind and first line of an error; the second line too if the first ends with a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{type(error).__name__}: {text}"
