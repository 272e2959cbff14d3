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
    known: dict[str, list[tuple[RunFolder, Record]]] = {}
    for folder, record in find_folders(runs):
        known.setdefault(str(record.run["id"]), []).append((folder, record))
    matches = [given] if given in known else [one for one in known if one.startswith(given)]
    if given and len(matches) == 1:
        return _only(known[matches[0]], given)
    if given and matches:
        raise UserError(
            "several runs have an id that starts like this", given=given, allowed=matches
        )
    named = {one: f"{one} ({same[0][1].run['method']})" for one, same in known.items()}
    match = nearest(given, named)
    raise UserError(
        "no run has this id",
        given=given,
        allowed=f"one of {len(named)} ids, the start of one, or a run's folder"
        + (f"; nearest: {named[match]}" if match else ""),
        fix=f"{as_called('records')} ls lists them; --runs names another folder",
    )


def _only(same: list[tuple[RunFolder, Record]], given: str) -> tuple[RunFolder, Record]:
    """The run, if it is the only one with its id: equal weights under two labels share one."""
    if len(same) > 1:
        folders = [str(folder.path) for folder, _ in same]
        raise UserError(
            "several folders hold a run with this id: the same computation on equal weights",
            given=given,
            allowed=folders,
            fix=f"give the folder instead of the id: {folders[0]}",
        )
    return same[0]


def shortest_name(folder: RunFolder, record: Record, root: Path) -> str:
    """By what :func:`find_run` finds a run: its id, or its folder if another run has that too.

    ``root`` is the folder of runs; only folders as :meth:`RunFolder.of` names them are looked at.
    """
    run_id = str(record.run["id"])
    others = [path for path in root.glob(f"*/*-{run_id}") if (path / RECORD).is_file()]
    return str(folder.path) if len(others) > 1 else run_id
