"""How long the jobs of a study may take, from the records of similar runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flrc.results.records.record import Record
from flrc.results.records.store import find_records
from flrc.results.studies.study import RESULTS
from flrc.results.tables.facts import facts_of


def estimate(jobs: Sequence[dict[str, Any]], experiments: Path) -> str:
    """One sentence: how many jobs would run, and for about how long.

    A job is expected to take as long as the runs of its method in the same study, here or as
    committed; stages that were read from the cache count with the time that this took.
    """
    known: list[Record] = []
    for folder in {Path(job["runs"]) for job in jobs} | {experiments / jobs[0]["study"] / RESULTS}:
        known += find_records(folder) if folder.is_dir() else []
    total, unknown = 0.0, 0
    for job in jobs:
        similar = [
            record.seconds
            for record in known
            if record.run.get("study") == job["study"]
            and facts_of(record.run["config"])["method"] == job["facts"]["method"]
        ]
        total += statistics.median(similar) if similar else 0.0
        unknown += not similar
    text = f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} would run"
    if unknown < len(jobs):
        text += f", about {duration(total)} in total, judging by similar runs"
    if unknown:
        text += f"; there is no similar run yet for {unknown} of them"
    return text + "."


def duration(seconds: float) -> str:
    """Minutes, or hours and minutes; at least one minute."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"
