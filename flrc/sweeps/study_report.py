"""What a sweep over a study leaves: its jobs, and its table in the paper's layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flrc.results.studies import manifest, render
from flrc.results.studies.collect import manifest_folder
from flrc.results.studies.manifest import Job
from flrc.results.studies.stored import rendered, stored
from flrc.sweeps.hydra_grammar import parse
from flrc.tracking.base import from_plain

WHOLE = frozenset({"experiment", "scale", "data", "data.root", "device", "force"})
"""Keys of a command that leave a study whole; any other (``rate=0.2``) narrows or changes it."""
WHOLE_PARTS = frozenset({"paths", "tracker", "launcher", "workers", "hydra"})
"""Groups of which every key does, but for the grid itself."""
GRID = "hydra.sweeper"


def report(
    jobs: Sequence[dict[str, Any]], experiments: Path, words: Sequence[str], console: Console
) -> None:
    """Note the study's jobs, print its table, write it below ``<runs>/studies/<study>-<scale>``.

    The jobs' tracker then publishes it. A narrowed sweep adds its jobs to those that are known; a
    whole one replaces them.

    Args:
        jobs: The sweep's ledger, jobs of one study at one scale in one folder of runs.
        experiments: Folder of the studies.
        words: The command line without flags.
        console: Where it is printed.

    Raises:
        UserError: If a column would mix settings or versions.
    """
    first = jobs[0]
    runs = Path(first["runs"])
    folder = manifest_folder(runs, first["study"], first["scale"])
    noted = [
        Job(
            job["run"],
            job["place"],
            job["facts"],
            job["seed"],
            job.get("measurements", []),
            f"python run.py {job['job']}",
        )
        for job in jobs
    ]
    if _narrowed(words):
        noted = [*noted, *manifest.read(folder)]
    manifest.write(folder, noted)
    found = stored(runs, first["study"], first["scale"], experiments)
    if found is None:
        return
    render.show(found, console)
    written = rendered(found, first["scale"], runs)
    console.print("rendered: " + ", ".join(str(path) for path in written), soft_wrap=True)
    if "tracker" in first:
        from_plain(first["tracker"]).publish_study(found, first["scale"], folder)


def _narrowed(words: Sequence[str]) -> bool:
    keys = [override.key_or_group for override in parse(words)]
    return any(
        key.startswith(GRID) or (key not in WHOLE and re.split("[./]", key)[0] not in WHOLE_PARTS)
        for key in keys
    )
