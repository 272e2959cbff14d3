"""Folders that a run writes to, its libraries' among them: known and tried before any work.

A library keeps the folder that it has by itself, or that the user gave it by its environment
variable. Where its own is in a home that is closed (read-only, or not there) it gets one below
``paths.cache``; that has to be said before the library is imported.
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
    """The run's folders and those of its libraries can be written to.

    Raises:
        UserError: The first that cannot.
    """
    for setting, folder in (("runs", runs), ("cache", cache)):
        check_writable(f"paths.{setting}", folder)
    for stage in cache.glob("*/"):  # a stage's entries may be another user's
        check_writable("paths.cache", stage)
    if INDUCTOR not in os.environ:  # torch makes one whether it compiles or not
        check_writable("TMPDIR", temporary_folder() / f"torchinductor_{_user()}")
    for variable, own in {INDUCTOR: None, **_of_libraries()}.items():
        given = os.environ.get(variable)
        if given:
            check_writable(variable, Path(given), f"unset {variable}, or {variable}=FOLDER")
        elif own is not None and (reason := closed(own)) is not None:
            os.environ[variable] = str(cache / "libraries" / own.name.lstrip("."))
            log.info("%s=%s, since %s", variable, os.environ[variable], reason)


def temporary_folder() -> Path:
    """The folder for temporary files.

    Raises:
        UserError: If there is none.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise UserError(
            "there is no folder for temporary files", given=str(error), fix="TMPDIR=FOLDER"
        ) from error


def check_writable(setting: str, folder: Path, fix: str | None = None) -> None:
    """Raise UserError unless files can be made in the folder, which need not be there yet."""
    reason = closed(folder)
    if reason is not None:
        raise UserError(
            f"{setting} cannot be written to",
            given=f"{folder}, since {reason}",
            allowed="a folder that can be made and written to",
            fix=fix or f"{setting}=FOLDER",
        )


def closed(folder: Path) -> str | None:
    """Why no file can be made in a folder, there or not; None if one can.

    A file is made, in the nearest folder that there is, and is gone at once: rights alone do not
    say what a read-only or a special file system refuses.
    """
    nearest = folder
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not nearest.is_dir():
            return f"{nearest} is a file"
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return f"{nearest} is closed ({error.strerror})"


def _user() -> str:
    """The user's name as torch has it in the name of a folder."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid_{os.getuid()}"


def _of_libraries() -> dict[str, Path]:
    """Environment variables that name a library's folder in the home, and that folder.

    Not among them are ``HF_HOME`` and ``WANDB_CONFIG_DIR``: models and data that were fetched
    before, and the user's settings, are read from there, and it may well be closed.
    """
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():
        home = Path(os.devnull)  # a user without a home: closed

    def base(variable: str, default: str) -> Path:
        return Path(os.environ.get(variable) or home / default)

    return {
        "MPLCONFIGDIR": base("XDG_CONFIG_HOME", ".config") / "matplotlib",
        "TRITON_HOME": home / ".triton",
        "WANDB_CACHE_DIR": base("XDG_CACHE_HOME", ".cache") / "wandb",
        "WANDB_DATA_DIR": base("XDG_DATA_HOME", ".local/share") / "wandb",
    }
