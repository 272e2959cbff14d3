"""Records of a study between the folder of runs and ``experiments/<study>/results``."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.results.records.checkpoint_places import without_places
from flrc.results.records.run_key import key_of
from flrc.results.records.store import EVALUATIONS, RECORD, RunFolder, find_folders
from flrc.results.studies import manifest
from flrc.results.studies.manifest import STUDIES, Job, manifest_folder


def collect(runs: Path, study: str, scale: str, results: Path) -> list[Path]:
    """Copy ``jobs.json`` and the records of its jobs to ``results``; remove all other records.

    A run is copied with the evaluations that belong to the study (generated text, ids, scores;
    never a data set's own text). A record that is in ``results`` but not in ``runs``, because it
    was computed elsewhere, stays.

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
            fix=f"{as_called()} experiment={study} scale={scale}",
        )
    manifest.write(results, jobs)
    kept = []
    names = _names(jobs)
    known = {key_of(record): folder.path for folder, record in find_folders(results)}
    for job in {job.folder: job for job in jobs}.values():
        to = results / names[job.folder]
        if known.get(job.key, to) != to:  # it had the name alone, or has it alone now
            shutil.rmtree(to, ignore_errors=True)
            known[job.key].rename(to)
        folder = RunFolder(runs / job.folder)
        whole = folder.read_record()
        if whole is not None and whole.run["status"] == "ok":
            record = job.of(whole)
            shutil.rmtree(to, ignore_errors=True)
            record.meta = without_places(record.meta)
            _write(to / RECORD, record.to_json())
            for name, values in folder.evaluations(record):
                _write(to / EVALUATIONS / name, values)
        if (to / RECORD).is_file():
            kept.append(to)
    for path in results.iterdir():
        if path.is_dir() and path not in kept:
            shutil.rmtree(path)
    return kept


def restore(results: Path, runs: Path) -> list[Path]:
    """Copy to ``runs`` what only ``results`` holds, so that only what is missing is computed.

    Returns the folders below ``runs`` to which something was copied.
    """
    touched = []
    jobs = manifest.read(results)
    names = _names(jobs)
    for job in jobs:
        source, to = results / names[job.folder], runs / job.folder
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


def _names(jobs: Sequence[Job]) -> dict[str, str]:
    """Folder of a run -> its name below the results: without the model's, unless several have it.

    Equal weights under two labels have folders of one name, one below each label.
    """
    paths = {job.folder: Path(job.folder) for job in jobs}
    count = Counter(path.name for path in paths.values())
    return {
        folder: path.name if count[path.name] == 1 else "-".join(path.parts)
        for folder, path in paths.items()
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    """Write JSON on one line: programs read these files, and the repository keeps them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(jsonfile.canonical(values) + "\n", encoding="utf-8")
