"""The jobs of a study: written by the sweep that ran it, read to render its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.results.records.other_settings import asked
from flrc.results.records.record import Record
from flrc.results.records.run_key import RunKey
from flrc.results.tables.facts import Facts

NAME = "jobs.json"
STUDIES = "studies"
"""Below the folder of runs: a folder for each study and scale, with its jobs and its table."""


@dataclass(frozen=True)
class Job:
    """One cell of a study's grid.

    Attributes:
        run: Id of its run; several jobs may share one (``flra`` is ``flrc`` without its schedule).
        folder: The run's folder, relative to the folder of runs.
        facts: Its place in the study's table.
        seed: Its random seed.
        measurements: Names of what it measures, as far as they are known.
        command: The command that computes it.
        keys: Name and settings of each of ``measurements``, as ``Measurement.key`` has them; none
            in files of earlier versions.
    """

    run: str
    folder: str
    facts: Facts
    seed: int
    measurements: list[str]
    command: str
    keys: list[str] = field(default_factory=list)

    def of(self, record: Record) -> Record:
        """The record with only what the job measures: its run may hold more, and more settings."""
        return asked(record, self.keys) if self.keys else record.only(self.measurements)

    @property
    def key(self) -> RunKey:
        """What tells its run from others."""
        return RunKey(str(self.facts.get("model")), self.run)


def manifest_folder(runs: Path, study: str, scale: str) -> Path:
    """Where a sweep writes the jobs of a study."""
    return runs / STUDIES / f"{study}-{scale}"


def known_studies(runs: Path) -> list[tuple[str, str]]:
    """Study and scale of every ``jobs.json`` below a folder of runs."""
    folders = sorted(path.parent.name for path in (runs / STUDIES).glob(f"*-*/{NAME}"))
    return [(study, scale) for study, _, scale in (name.rpartition("-") for name in folders)]


def write(folder: Path, jobs: Sequence[Job]) -> None:
    """Write ``jobs.json``; of jobs with the same run and facts, only the first."""
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(jsonfile.canonical([job.run, job.facts]), job)
    jsonfile.write(folder / NAME, {"jobs": [asdict(job) for job in first.values()]})


def read(folder: Path) -> list[Job]:
    """The jobs; none if there is no such file."""
    path = folder / NAME
    if not path.is_file():
        return []
    values: dict[str, Any] = jsonfile.read(path)
    return [Job(**job) for job in values["jobs"]]
