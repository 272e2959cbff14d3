"""From records to files and to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from flrc.errors import UserError, choose
from flrc.results.plots import plot
from flrc.results.records.record import Record
from flrc.results.tables import csv, latex, markdown, terminal
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.labels import read_presets
from flrc.results.tables.table import Table, build

FILES: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": ("table.md", markdown.render),
    "csv": ("table.csv", csv.render),
    "latex": ("table.tex", latex.render),
}
FORMATS = (*FILES, "plot")
PIPED_WIDTH = 160
"""Columns of text where there is no terminal to ask."""


def render(
    records: Sequence[Record],
    output: Path,
    formats: Sequence[str] | None = None,
    x: str = "rate",
) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``plot.png`` below ``output``.

    Args:
        records: Any records.
        output: Folder; created if it is not there.
        formats: Some of ``markdown``, ``csv``, ``latex``, ``plot``; all unless given.
        x: What the plot is drawn against: ``rate`` or ``stored``.

    Returns:
        The files, in the order of the formats. Without any measurement there is no plot.

    Raises:
        UserError: If a format does not exist, no run has finished, or a column would mix settings.
    """
    wanted = [choose("format", name, FORMATS) for name in (formats or FORMATS)]
    table = build(records, presets())
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for name in wanted:
        if name == "plot":
            written += plot.draw(table, output / "plot.png", x)
        else:
            file, text = FILES[name]
            (output / file).write_text(text(table), encoding="utf-8")
            written.append(output / file)
    return written


def print_table(records: Sequence[Record], console: Console | None = None) -> None:
    """Print the table; where one table would mix settings, one per group of settings, and say so.

    Runs that failed are listed under the (last) table; if none has finished, only they are listed.
    """
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = console or Console(width=width, markup=False, highlight=False)
    finished = [record for record in records if record.run["status"] == "ok"]
    others = [record for record in records if record.run["status"] != "ok"]
    groups = settings_groups(finished)
    if not groups:
        try:
            build(others)
        except UserError as error:
            console.print(str(error))
        return
    if len(groups) > 1:
        console.print(
            f"These runs were measured under {len(groups)} different settings: one table for each."
        )
    known = presets()
    for number, group in enumerate(groups, start=1):
        last = number == len(groups)
        try:
            table = build([*group, *(others if last else [])], known)
        except UserError as error:  # a table that cannot be made must not hide the ones that can
            console.print(str(error))
        else:
            terminal.show(table, console)


def presets() -> dict[str, dict[str, str]]:
    """The presets of the configuration beside the package; nothing where it is not at hand."""
    return read_presets(Path(__file__).resolve().parents[3] / "conf")
