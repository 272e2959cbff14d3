"""Finds one run by what a user has of it: the start of its id, its folder or its checkpoint's."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flrc.core.commands import as_called
from flrc.errors import UserError, nearest
from flrc.results.records.record import Record
from flrc.results.records.store import RECORD, RunFolder, find_folders

RUNS = Path("runs")
"""The folder of runs unless another one is named."""


def find_run(given: str | Path, runs: Path = RUNS) -> tuple[RunFolder, Record]:
    """The run that is meant, and its record.

    Args:
        given: The run's id or the start of it, its folder, or the ``model`` folder in that.
        runs: Where ids are looked up.

    Raises:
        UserError: If there is none, naming the nearest id, or several.
    """
    folder = folder_of_run(Path(given).expanduser())
    if folder is not None:
        record = folder.read_record()
        if record is None:
            raise UserError("the record of this run cannot be read", given=str(folder.path))
        return folder, record
    return _by_id(str(given), runs)


def folder_of_run(path: Path) -> RunFolder | None:
    """The run whose folder, or whose checkpoint's folder, this is; None if it is neither."""
    with suppress(ValueError, OSError):  # not a path that the system accepts
        for folder in (path, path.parent if path.name == "model" else path):
            if (folder / RECORD).is_file():
                return RunFolder(folder)
    return None


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
