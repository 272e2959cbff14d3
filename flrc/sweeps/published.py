"""Where the trackers of a command's jobs have what was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.sweeps.job_log import JobEntry
from flrc.tracking.base import from_plain


def published_lines(entries: Sequence[JobEntry], study: Path | None = None) -> list[str]:
    """Lines about the runs of these jobs and, before them, about the page of their study.

    Args:
        entries: Jobs of one table.
        study: The study's folder, if its page was published.
    """
    trackers: dict[str, dict[str, Any]] = {}
    folders: dict[str, dict[Path, None]] = {}

    def add(tracker: dict[str, Any], folder: Path) -> None:
        trackers.setdefault(canonical(tracker), tracker)
        folders.setdefault(canonical(tracker), {})[folder] = None

    if study is not None and entries[0].study is not None:
        add(entries[0].study.tracker, study)
    for entry in entries:
        if entry.tracker and entry.folder is not None:
            add(entry.tracker, Path(entry.folder))
    return [
        line for key, of in folders.items() for line in from_plain(trackers[key]).places(list(of))
    ]
