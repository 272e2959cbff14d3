"""A study: its layout, the paper's numbers, its jobs, and what has been run of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flrc.results.records.record import Record
from flrc.results.records.run_key import RunKey, key_of
from flrc.results.records.store import RunFolder, find_folders
from flrc.results.studies import manifest
from flrc.results.studies.expected import Expected, read_expected
from flrc.results.studies.manifest import Job, manifest_folder
from flrc.results.studies.runs import runs_of
from flrc.results.tables.layout import Layout, read_layout
from flrc.results.tables.value import TableRun

RESULTS = "results"


@dataclass(frozen=True)
class Study:
    """All that its page is made of: layout, the paper's numbers, runs, and jobs, run or not."""

    name: str
    layout: Layout
    expected: Expected | None
    runs: list[TableRun]
    jobs: list[Job]

    @property
    def records(self) -> list[Record]:
        """The records of its runs, each once."""
        return list({run.key: run.record for run in self.runs}.values())


def results_of(folder: Path, scale: str) -> Path:
    """Where a study's records and ``jobs.json`` are kept."""
    return folder / RESULTS if scale == "small" else folder / scale / RESULTS


def read_study(folder: Path, scale: str = "small") -> Study | None:
    """The study of ``experiments/<study>``; None if the folder has no ``table.yaml``.

    Raises:
        UserError: If a file is malformed, or a column would mix settings or versions.
    """
    results = results_of(folder, scale)
    known = find_folders(results) if results.is_dir() else []
    folders = {key_of(record): run for run, record in known}
    return study_of(folder, [record for _, record in known], manifest.read(results), folders)


def read_study_of_runs(runs: Path, name: str, scale: str, experiments: Path) -> Study | None:
    """A study as its jobs and their records are below a folder of runs now.

    Returns:
        None if it has no layout, or none of its jobs has finished.

    Raises:
        UserError: If a column would mix settings or versions.
    """
    jobs = manifest.read(manifest_folder(runs, name, scale))
    folders = {job.key: RunFolder(runs / job.folder) for job in jobs}
    job_of = {job.key: job for job in jobs}
    records = [
        job_of[run].of(record)
        for run, folder in folders.items()
        if (record := folder.read_record()) is not None
    ]
    study = study_of(experiments / name, records, jobs, folders)
    return study if study is not None and study.runs else None


def study_of(
    folder: Path,
    records: Sequence[Record],
    jobs: Sequence[Job],
    folders: Mapping[RunKey, RunFolder] | None = None,
) -> Study | None:
    """The study of these records; None if the folder has no ``table.yaml``.

    ``folders`` says where the items of a run are stored.
    """
    layout = read_layout(folder)
    if layout is None:
        return None
    runs = runs_of(records, layout, jobs, folders)
    return Study(folder.name, layout, read_expected(folder), runs, list(jobs))
