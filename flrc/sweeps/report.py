"""What a sweep prints at its end: tables, or what a dry run found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.core.error_output import print_failure
from flrc.errors import UserError
from flrc.results.pages.report import print_tables, write_tables
from flrc.results.records.other_settings import asked
from flrc.sweeps.dry_run_report import print_plan
from flrc.sweeps.job_log import JobEntry, runs_of
from flrc.sweeps.next_steps import print_end, print_rendered
from flrc.sweeps.published import published_lines
from flrc.sweeps.study_report import report_study


def report(entries: Sequence[JobEntry], experiments: Path, overrides: Sequence[str]) -> int:
    """Print and render the tables of a sweep.

    Returns:
        1 if a table could not be rendered, else 0.
    """
    console = Console()
    planned = [entry for entry in entries if entry.status in ("done", "would run")]
    code = 0
    if planned:
        print_plan(planned, experiments, console)
    else:
        for group in _groups(entries):
            page = None
            try:
                if group[0].study is not None:
                    page = report_study(group, experiments, overrides, console)
                else:
                    _print_tables(group, console)
            except (UserError, OSError) as error:
                code = print_failure(error, "the table cannot be rendered")
            for line in published_lines(group, page):
                console.print(line, soft_wrap=True, markup=False, highlight=False)
    return code


def _groups(entries: Sequence[JobEntry]) -> list[list[JobEntry]]:
    """The jobs of each table: those of one study and scale, or of none, in one folder of runs."""
    groups: dict[tuple[str | None, ...], list[JobEntry]] = {}
    for entry in entries:
        if entry.runs is not None:
            study = () if entry.study is None else (entry.study.study, entry.study.scale)
            groups.setdefault((entry.runs, *study), []).append(entry)
    return list(groups.values())


def _print_tables(entries: Sequence[JobEntry], console: Console) -> None:
    """Print the table of jobs outside of studies, and write it to ``<runs>/tables/``."""
    keys = {key for entry in entries for key in entry.keys}
    runs = [(folder, asked(record, keys)) for folder, record in runs_of(entries)]
    records = [record for _, record in runs]
    if records:
        print_tables(records)
    if any(record.run["status"] == "ok" for record in records):
        name = time.strftime("%Y%m%d-%H%M%S") + "-" + records[0].run["id"][:4]
        assert entries[0].runs is not None
        root = Path(entries[0].runs)
        written = write_tables(records, root / "tables" / name)
        print_end(runs, root, console)
        print_rendered(written, console)
