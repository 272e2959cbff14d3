"""A study as its jobs and their records are below a folder of runs."""

from __future__ import annotations

import os
from pathlib import Path

from flrc.results.records.store import RECORD, RunFolder
from flrc.results.studies import manifest, render
from flrc.results.studies.collect import manifest_folder
from flrc.results.studies.study import Study, of_records


def stored(runs: Path, name: str, scale: str, experiments: Path) -> Study | None:
    """A study as its jobs and their records are below ``runs`` now.

    Returns:
        None if it has no layout, or none of its jobs has finished.

    Raises:
        UserError: If a column would mix settings or versions.
    """
    jobs = manifest.read(manifest_folder(runs, name, scale))
    records = []
    for job in {job.run: job for job in jobs}.values():
        record = RunFolder(runs / job.folder).read_record()
        if record is not None:
            measured = record.results.get("measurements", [])
            record.results["measurements"] = [m for m in measured if m["name"] in job.measurements]
            records.append(record)
    folders = {job.run: RunFolder(runs / job.folder) for job in jobs}
    found = of_records(experiments / name, records, jobs, folders)
    return found if found is not None and found.runs else None


def rendered(found: Study, scale: str, runs: Path) -> list[Path]:
    """Write a study's files below ``<runs>/studies/<study>-<scale>``."""
    folder = manifest_folder(runs, found.name, scale)
    places = {job.run: os.path.relpath(runs / job.folder / RECORD, folder) for job in found.jobs}
    return render.render(found, folder, places)
