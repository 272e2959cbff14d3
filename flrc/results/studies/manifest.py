"""Which jobs make a study: written by the sweep that ran it, read by what renders it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.results.tables.facts import Facts

NAME = "jobs.json"


@dataclass(frozen=True)
class Job:
    """One cell of a study's grid.

    Attributes:
        run: Id of its run; several jobs may have one (``flra`` is ``flrc`` without its schedule).
        folder: The run's folder, below the folder of runs.
        facts: What it is.
        seed: Of everything that is drawn.
        measurements: Names of what it measures, as far as is known.
        command: What computes it.
    """

    run: str
    folder: str
    facts: Facts
    seed: int
    measurements: list[str]
    command: str


def write(folder: Path, jobs: Sequence[Job]) -> None:
    """Write ``jobs.json``; of jobs that are the same in everything but the command the first."""
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(jsonfile.canonical([job.run, job.facts]), job)
    jsonfile.write(folder / NAME, {"jobs": [asdict(job) for job in first.values()]})


def read(folder: Path) -> list[Job]:
    """The jobs; none where there is no such file."""
    path = folder / NAME
    if not path.is_file():
        return []
    values: dict[str, Any] = jsonfile.read(path)
    return [Job(**job) for job in values["jobs"]]
