"""Tables of any runs, as files and in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from flrc.errors import UserError
from flrc.results.plots import plot
from flrc.results.plots.formats import PLOT, formats_to_write
from flrc.results.records.record import Record
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.csv import csv_text
from flrc.results.tables.labels import presets
from flrc.results.tables.latex import latex_page
from flrc.results.tables.markdown import markdown_page
from flrc.results.tables.runs_table import RunsTable
from flrc.results.tables.terminal import print_runs_table

FILES: dict[str, tuple[str, Callable[[RunsTable], str]]] = {
    "markdown": ("table.md", markdown_page),
    "csv": ("table.csv", csv_text),
    "latex": ("table.tex", latex_page),
}
FORMATS = (*FILES, PLOT)
PIPED_WIDTH = 160
"""Width in characters if the output is not a terminal."""


def write_tables(
    records: Sequence[Record],
    output: Path,
    formats: Sequence[str] | None = None,
    x: str = "rate",
) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``plot.png`` below ``output``.

    Args:
        records: Any records.
        output: Folder; created if it does not exist.
        formats: Some of ``FORMATS``; all that can be written unless given.
        x: The plot's horizontal axis: ``rate`` or ``stored``.

    Raises:
        UserError: If a format does not exist, no run has finished, or a column would mix settings.
    """
    wanted = formats_to_write(formats, FORMATS)
    table = RunsTable(records, presets())
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for name in wanted:
        if name == PLOT:
            written += plot.draw(table, output / "plot.png", x)
        else:
            file, text = FILES[name]
            (output / file).write_text(text(table), encoding="utf-8")
            written.append(output / file)
    return written


def print_tables(records: Sequence[Record], console: Console | None = None) -> None:
    """Print the table; if one table would mix settings, one for each group of settings.

    Runs that failed are listed under the last table; if none has finished, only they are listed.
    """
    console = console or plain_console()
    others = [record for record in records if record.run["status"] != "ok"]
    groups = settings_groups(records) or [[]]
    if len(groups) > 1:
        console.print(
            f"These runs were measured under {len(groups)} different settings: one table for each."
        )
    known = presets()
    for group in groups:
        try:
            table = RunsTable([*group, *(others if group is groups[-1] else [])], known)
        except UserError as error:  # one table that cannot be made must not hide the others
            console.print(str(error))
        else:
            print_runs_table(table, console)


def plain_console() -> Console:
    """A console without markup, wide where the output is not a terminal."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(width=width, markup=False, highlight=False)
