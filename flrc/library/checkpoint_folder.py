"""Finds a checkpoint by its folder, or by the folder or id of the run that saved it."""

from __future__ import annotations

from pathlib import Path

from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.models.checkpoints.manifest import FILE
from flrc.results.records.checkpoint_places import checkpoint_of, noted
from flrc.results.records.lookup import RUNS, find_run, folder_of_run
from flrc.results.records.own_command import own_command
from flrc.results.records.record import Record


def checkpoint_folder(given: str | Path, runs: str | Path = RUNS) -> Path:
    """The folder of the checkpoint that is meant; whether it is one, is found when it is read.

    Args:
        given: The checkpoint's folder, the run's folder, or the run's id or the start of it.
        runs: Where ids are looked up.

    Raises:
        UserError: If an id is unknown or means several runs, or the run has no checkpoint, in its
            folder or where ``flrc compress`` saved it.
    """
    path = Path(given).expanduser()
    if _is_file(path / FILE):
        return path
    if _is_file(path / "model" / FILE):
        return path / "model"
    if _looks_like_an_id(path) and Path(runs).expanduser().is_dir():
        folder, record = find_run(given, Path(runs).expanduser())
    elif path.is_dir() and (run := folder_of_run(path)) is not None:
        folder, record = find_run(run.path)
    else:
        return path  # reading it says what is wrong with it
    place = checkpoint_of(folder, record)
    if place is None:
        raise _without_checkpoint(folder.path, record)
    return place


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # not a path that the system accepts
        return False


def _looks_like_an_id(path: Path) -> bool:
    """A single word that does not name a file or folder."""
    try:
        return bool(path.name) and len(path.parts) == 1 and not path.exists()
    except (OSError, ValueError):
        return False


def _without_checkpoint(folder: Path, record: Record) -> UserError:
    if record.run["method"] == "dense":
        return UserError(
            "a dense run has no checkpoint: nothing was compressed",
            given=str(folder),
            allowed="a run that compresses the model",
            fix=f"{as_called()} method=flrc rate=0.2 model.save=true",
        )
    places = ", ".join(str(place["folder"]) for place in noted(record))
    return UserError(
        "this run has no checkpoint",
        given=f"{folder} (saved to {places}, but no longer there)" if places else str(folder),
        allowed="a run with model.save=true, or the folder of a checkpoint",
        fix=own_command(record, "model.save=true"),
    )
