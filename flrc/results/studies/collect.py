"""Records of a study between the folder of runs and ``experiments/<study>/results``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.errors import UserError
from flrc.results.records.store import EVALUATIONS, RECORD, RunFolder
from flrc.results.studies import manifest

STUDIES = "studies"
"""Below the folder of runs: one folder a study and scale, with its jobs and its rendered table."""


def manifest_folder(runs: Path, study: str, scale: str) -> Path:
    """Where a sweep leaves the jobs of a study."""
    return runs / STUDIES / f"{study}-{scale}"


def known_studies(runs: Path) -> list[tuple[str, str]]:
    """Study and scale of every ``jobs.json`` below a folder of runs."""
    folders = sorted(path.parent.name for path in (runs / STUDIES).glob(f"*-*/{manifest.NAME}"))
    return [(study, scale) for study, _, scale in (name.rpartition("-") for name in folders)]


def collect(runs: Path, study: str, scale: str, results: Path) -> list[Path]:
    """Copy ``jobs.json`` and what it names to ``results``; drop records it does not name.

    Of every run the record and the evaluations (generated text, ids, scores; never a data set's
    own text) that belong to the study. A record that is in ``results`` but not in ``runs``, because
    it was computed elsewhere, stays.

    Args:
        runs: Folder of the runs.
        study: The study.
        scale: Its scale.
        results: Where they go.

    Returns:
        The records' folders below ``results``.

    Raises:
        UserError: If the study was not run from there.
    """
    jobs = manifest.read(manifest_folder(runs, study, scale))
    if not jobs:
        raise UserError(
            "this study was not run here at this scale",
            given=f"{study}, scale {scale}, {runs}",
            allowed=[path.name for path in sorted((runs / STUDIES).glob("*-*"))] or "nothing yet",
            fix=f"python run.py experiment={study} scale={scale}",
        )
    manifest.write(results, jobs)
    kept = []
    for job in {job.run: job for job in jobs}.values():
        to = results / Path(job.folder).name
        record = RunFolder(runs / job.folder).read_record()
        if record is not None and record.run["status"] == "ok":
            shutil.rmtree(to, ignore_errors=True)
            measured = record.results["measurements"]
            record.results["measurements"] = [m for m in measured if m["name"] in job.measurements]
            _write(to / RECORD, record.to_json())
            for name, values in RunFolder(runs / job.folder).evaluations(record):
                _write(to / EVALUATIONS / name, values)
        if (to / RECORD).is_file():
            kept.append(to)
    for folder in results.iterdir():
        if folder.is_dir() and folder not in kept:
            shutil.rmtree(folder)
    return kept


def restore(results: Path, runs: Path) -> list[Path]:
    """Copy what ``results`` holds and ``runs`` does not, so that only the missing is computed.

    A file that is in ``runs`` already is left as it is.

    Returns:
        The folders below ``runs`` to which something was copied.
    """
    touched = []
    for job in manifest.read(results):
        source, to = results / Path(job.folder).name, runs / job.folder
        missing = [
            path
            for path in sorted(source.rglob("*.json"))
            if not (to / path.relative_to(source)).exists()
        ]
        for path in missing:
            target = to / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        touched += [to] if missing else []
    return touched


def _write(path: Path, values: dict[str, Any]) -> None:
    """One line of JSON: these files are read by programs and kept in the repository."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(jsonfile.canonical(values) + "\n", encoding="utf-8")
