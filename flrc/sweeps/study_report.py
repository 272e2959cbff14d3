"""The report of a sweep over a study: its jobs, and its table in the paper's layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.core.commands import as_called
from flrc.results.studies import manifest
from flrc.results.studies.files import print_study, write_study_of_runs
from flrc.results.studies.manifest import Job, manifest_folder
from flrc.results.studies.study import read_study_of_runs
from flrc.sweeps.job_log import JobEntry, runs_of
from flrc.sweeps.next_steps import print_end, print_rendered
from flrc.sweeps.overrides import parse
from flrc.tracking.base import from_plain

WHOLE = frozenset({"experiment", "scale", "data", "data.root", "device", "force"})
"""Keys that a command may override and still run the whole study; others change or narrow it."""
WHOLE_GROUPS = frozenset({"paths", "tracker", "launcher", "workers", "hydra"})
"""Groups whose keys may all be overridden, except for the grid itself."""
GRID = "hydra.sweeper"


def report_study(
    entries: Sequence[JobEntry], experiments: Path, overrides: Sequence[str], console: Console
) -> Path | None:
    """Save the study's jobs, print its table, write it to ``<runs>/studies/<study>-<scale>``.

    What follows the table is this command's: its runs and the next commands. The tracker of the
    jobs then publishes the study. A sweep over a part of the study adds its jobs to the known ones;
    a sweep over the whole study replaces them. All entries are jobs of one study at one scale in
    one folder of runs.

    Returns:
        The folder of the study, if the tracker has its page.

    Raises:
        UserError: If a column would mix settings or versions.
    """
    first = entries[0]
    assert first.study is not None
    assert first.runs is not None
    runs, name, scale = Path(first.runs), first.study.study, first.study.scale
    folder = manifest_folder(runs, name, scale)
    jobs = [
        Job(
            s.run,
            s.place,
            s.facts,
            s.seed,
            e.measurements,
            f"{as_called(here=False)} {e.overrides}",
            e.keys,
        )
        for e in entries
        if (s := e.study) is not None
    ]
    if narrows(overrides):
        jobs += manifest.read(folder)
    manifest.write(folder, jobs)
    study = read_study_of_runs(runs, name, scale, experiments)
    if study is None:
        print_end(runs_of(entries), runs, console)
        return None
    print_study(study, console)
    written = write_study_of_runs(study, scale, runs)
    print_end(runs_of(entries), runs, console)
    print_rendered(written, console)
    return folder if from_plain(first.study.tracker).publish_study(study, scale, folder) else None


def narrows(overrides: Sequence[str]) -> bool:
    """Whether a command runs a part or a variant of a study instead of the whole study."""
    keys = [override.key_or_group for override in parse(overrides)]
    return any(
        key.startswith(GRID) or (key not in WHOLE and re.split("[./]", key)[0] not in WHOLE_GROUPS)
        for key in keys
    )
