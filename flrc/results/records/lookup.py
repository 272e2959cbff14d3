"""Finds one run by what a user has of it: the start of its id, its folder or its checkpoint's."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flrc.core.commands import as_called
from flrc.errors import UserError, nearest
from flrc.models.checkpoints.manifest import FILE as MANIFEST
from flrc.models.checkpoints.manifest import RECORD as RECORD_BESIDE
from flrc.results.records.record import Record
from flrc.results.records.store import RECORD, RunFolder, find_folders

RUNS = Path("runs")
"""The folder of runs unless another one is named."""


def find_run(given: str | Path, runs: Path = RUNS) -> tuple[RunFolder, Record]:
    """The run that is meant, and its record.

    Args:
        given: The run's id or the start of it, its folder, or a checkpoint's folder: the ``model``
            folder in that, or one that was saved elsewhere and holds the record without the items.
        runs: Where ids are looked up.

    Raises:
        UserError: If there is none, naming the nearest id, or several, naming their folders.
    """
    path = Path(given).expanduser()
    if (folder := folder_of_run(path)) is not None:
        return folder, _known(folder, folder.read_record())
    if _is_file(path / MANIFEST):
        return RunFolder(path), _of_checkpoint(RunFolder(path))
    return _by_id(str(given), runs)


def folder_of_run(path: Path) -> RunFolder | None:
    """The run whose folder, or whose checkpoint's folder, this is; None if it is neither."""
    for folder in (path, path.parent if path.name == "model" else path):
        if _is_file(folder / RECORD):
            return RunFolder(folder)
    return None


def _is_file(path: Path) -> bool:
    with suppress(ValueError, OSError):  # not a path that the system accepts
        return path.is_file()
    return False


def _of_checkpoint(folder: RunFolder) -> Record:
    if not _is_file(folder.path / RECORD_BESIDE):
        raise UserError(
            "this checkpoint was saved without the record of its run",
            given=str(folder.path),
            allowed=f"a checkpoint with {RECORD_BESIDE}, as a run and flrc.save write it",
            fix="give the run's id or folder",
        )
    return _known(folder, folder.read_record(RECORD_BESIDE))


def _known(folder: RunFolder, record: Record | None) -> Record:
    if record is None:
        raise UserError("the record of this run cannot be read", given=str(folder.path))
    return record


def _by_id(given: str, runs: Path) -> tuple[RunFolder, Record]:
    known = {str(record.run["id"]): (folder, record) for folder, record in find_folders(runs)}
    matches = [given] if given in known else [one for one in known if one.startswith(given)]
    if given and len(matches) == 1:
        return known[matches[0]]
    if given and matches:
        raise UserError(
            "several runs have an id that starts like this", given=given, allowed=matches
        )
    named = {one: f"{one} ({record.run['method']})" for one, (_, record) in known.items()}
    match = nearest(given, named)
    raise UserError(
        "no run has this id",
        given=given,
        allowed=f"one of {len(named)} ids, the start of one, or a run's folder"
        + (f"; nearest: {named[match]}" if match else ""),
        fix=f"{as_called('records')} ls lists them; --runs names another folder",
    )
