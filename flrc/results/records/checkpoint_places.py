"""Where the checkpoint of a run is: in its folder, or where ``flrc compress`` saved it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.models.checkpoints.manifest import FILE
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder

PLACES = "checkpoints"
"""Key of a record's ``meta``: absolute folder and manifest's digest of each, the newest last."""


def note_checkpoint(record: Record, saved: Path) -> None:
    """Note in the record of a run, in its folder, that its model has been saved elsewhere too."""
    run = RunFolder.of_record(record)
    with run.lock():
        current = run.read_record()
        if current is None:
            return
        place = {"folder": str(saved.resolve()), "digest": _digest(saved)}
        others = [known for known in noted(current) if known["folder"] != place["folder"]]
        current.meta[PLACES] = [*others, place]
        run.write_record(current)


def noted(record: Record | None) -> list[dict[str, Any]]:
    """What :func:`note_checkpoint` noted."""
    return [] if record is None else list(record.meta.get(PLACES, []))


def without_places(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A record's ``meta`` without them: for what another machine reads."""
    return {key: value for key, value in meta.items() if key != PLACES}


def checkpoint_of(run: RunFolder, record: Record) -> Path | None:
    """The run's checkpoint: in its folder, else the newest elsewhere that is still the same.

    It is the same if its manifest is; the files are compared with that when they are loaded.
    """
    if (run.model / FILE).is_file():
        return run.model
    for place in reversed(noted(record)):
        if _digest(Path(place["folder"])) == place["digest"]:
            return Path(place["folder"])
    return None


def _digest(folder: Path) -> str | None:
    try:
        return str(jsonfile.read(folder / FILE)["digest"])
    except (OSError, ValueError, KeyError, TypeError):  # removed, or something else by now
        return None
