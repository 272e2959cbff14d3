"""A study: its layout, the paper's numbers, what has been run, and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder, find_folders
from flrc.results.studies import manifest
from flrc.results.studies.manifest import Job
from flrc.results.tables.layout import Expected, Layout, read_expected, read_layout
from flrc.results.tables.value import Run, runs_of

RESULTS = "results"


@dataclass(frozen=True)
class Study:
    """Everything a page is made of.

    Attributes:
        name: The study's folder.
        layout: How its table is laid out.
        expected: The paper's numbers, if it is the paper's.
        runs: What has been run.
        jobs: What belongs to it, run or not.
    """

    name: str
    layout: Layout
    expected: Expected | None
    runs: list[Run]
    jobs: list[Job]


def results_of(folder: Path, scale: str) -> Path:
    """Where a study's records and ``jobs.json`` are kept."""
    return folder / RESULTS if scale == "small" else folder / scale / RESULTS


def read(folder: Path, scale: str = "small") -> Study | None:
    """The study of ``experiments/<study>``; None if the folder has no ``table.yaml``.

    Args:
        folder: The study's folder.
        scale: Which of its results.

    Raises:
        UserError: If a file is malformed, or a column would mix settings or versions.
    """
    results = results_of(folder, scale)
    found = find_folders(results) if results.is_dir() else []
    folders = {str(record.run["id"]): at for at, record in found}
    return of_records(folder, [record for _, record in found], manifest.read(results), folders)


def of_records(
    folder: Path,
    records: Sequence[Record],
    jobs: Sequence[Job],
    folders: Mapping[str, RunFolder] | None = None,
) -> Study | None:
    """The study of these records; None if the folder has no ``table.yaml``.

    Args:
        folder: ``experiments/<study>``.
        records: Records of its runs.
        jobs: What belongs to it.
        folders: Run id -> where its items are.
    """
    layout = read_layout(folder)
    if layout is None:
        return None
    return Study(
        folder.name,
        layout,
        read_expected(folder),
        runs_of(records, layout, jobs, folders),
        list(jobs),
    )
