"""Which W&B run is the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.results.records.record import Record
from flrc.results.records.run_key import key_of
from flrc.results.records.store import RunFolder

PUBLISHED = "published.json"
"""In the folder of a run or a study: digest, mode, page, and URL or offline files of what was sent,
for each destination."""
PAGE = "page"
"""Key of the page's id there; earlier versions wrote none, and the page had the run's id."""


def page_id(record: Record, folder: Path) -> str:
    """The id of the page of a run: the run's, if it is the only one with this id.

    Runs with equal weights under several labels share an id. One of them has the page of that id:
    the one that was published first, else the first label. The label is part of the other pages'
    ids. A page keeps the id of its first publication, at every destination.

    Args:
        record: The run's record.
        folder: Its folder, ``<runs>/<model>/<run>``.
    """
    key, folder = key_of(record), folder.resolve()
    known = {path: _published(path) for path in folder.parent.parent.glob(f"*/{folder.name}")}
    known.setdefault(folder, {})
    if (own := _page(known[folder])) is not None:
        return own
    claims = {
        path: (_page(sent) is None, not sent, path)
        for path, sent in known.items()
        if _page(sent) in (None, key.id) and (path == folder or sent or not _failed(path))
    }
    first = min(claims, key=claims.__getitem__)
    return key.id if first == folder else f"{key.id}-{jsonfile.digest(key.model)}"


def _published(folder: Path) -> dict[str, Any]:
    return RunFolder(folder).read_json(PUBLISHED) or {}


def _page(sent: dict[str, Any]) -> str | None:
    """The page that was noted when something was sent."""
    return next((str(place[PAGE]) for place in sent.values() if PAGE in place), None)


def _failed(folder: Path) -> bool:
    """Whether the run has failed; one that has not ended will be published too."""
    record = RunFolder(folder).read_record()
    return record is not None and record.run["status"] != "ok"
