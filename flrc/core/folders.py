"""Checks that the folders of a run and of its libraries are writable, before any work.

A library uses its default folder, or the one that the user sets with its environment variable. If
the default is in a home that is not writable (or missing), the library gets a folder below
``paths.cache``; its environment variable has to be set before the library is imported.
"""

from __future__ import annotations

import getpass
import logging
import os
import tempfile
from pathlib import Path

from flrc.errors import UserError

log = logging.getLogger(__name__)

INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"


def check_folders(runs: Path, cache: Path) -> None:
    """Raise UserError at the first folder of the run or its libraries that is not writable."""
    for setting, folder in (("runs", runs), ("cache", cache)):
        check_writable(f"paths.{setting}", folder)
    for stage in cache.glob("*/"):  # stages may belong to different users
        check_writable("paths.cache", stage)
    if INDUCTOR not in os.environ:  # torch creates it even if nothing is compiled
        check_writable("TMPDIR", temporary_folder() / f"torchinductor_{_user()}")
    for variable, default in {INDUCTOR: None, **_library_folders()}.items():
        given = os.environ.get(variable)
        if given:
            check_writable(variable, Path(given), f"unset {variable}, or {variable}=FOLDER")
        elif default is not None and (reason := why_not_writable(default)) is not None:
            os.environ[variable] = str(cache / "libraries" / default.name.lstrip("."))
            log.info("%s=%s, because %s", variable, os.environ[variable], reason)


def temporary_folder() -> Path:
    """The folder for temporary files; raises UserError if there is no such folder."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise UserError(
            "there is no folder for temporary files", given=str(error), fix="TMPDIR=FOLDER"
        ) from error


def check_writable(setting: str, folder: Path, fix: str | None = None) -> None:
    """Raise UserError unless files can be created in the folder, which need not exist yet."""
    reason = why_not_writable(folder)
    if reason is not None:
        raise UserError(
            f"{setting} cannot be written to",
            given=f"{folder}: {reason}",
            allowed="a folder that can be created and written to",
            fix=fix or f"{setting}=FOLDER",
        )


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be created in a folder, which need not exist; None if one can.

    Creates a temporary file in the nearest existing folder: permissions alone do not tell what a
    read-only or special file system refuses.
    """
    nearest = folder
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not nearest.is_dir():
            return f"{nearest} is a file"
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return f"{nearest} is not writable ({error.strerror})"


def _user() -> str:  # as torch names its folder
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid_{os.getuid()}"


def _library_folders() -> dict[str, Path]:
    """Environment variables of libraries, each with the default folder in the home that it changes.

    ``HF_HOME`` and ``WANDB_CONFIG_DIR`` are left out: models, data and the user's settings are read
    from there, which works without write permission.
    """
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():
        home = Path(os.devnull)  # a user without a home

    def base(variable: str, default: str) -> Path:
        return Path(os.environ.get(variable) or home / default)

    return {
        "MPLCONFIGDIR": base("XDG_CONFIG_HOME", ".config") / "matplotlib",
        "TRITON_HOME": home / ".triton",
        "WANDB_CACHE_DIR": base("XDG_CACHE_HOME", ".cache") / "wandb",
        "WANDB_DATA_DIR": base("XDG_DATA_HOME", ".local/share") / "wandb",
    }
