"""Tables of any runs, as files and in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from flrc.errors import UserError
from flrc.results.plots import plot
from flrc.results.plots.formats import PICTURES, PLOT, formats_to_write
from flrc.results.plots.names import Names
from flrc.results.plots.style import save
from flrc.results.records.record import Record
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.csv import csv_text
from flrc.results.tables.group_names import GroupName, group_names
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
    pictures: Sequence[str] = PICTURES,
) -> list[Path]:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and the plot below ``output``.

    Where one table would mix settings, one of each for every group of settings, with the settings
    in their names: ``table-length256.md``.

    Args:
        records: Any records.
        output: Folder; created if it does not exist.
        formats: Some of ``FORMATS``; all that can be written unless given.
        x: The plot's horizontal axis, of :data:`~flrc.results.plots.panel.AXES`.
        pictures: Formats of the plot: ``png``, ``pdf``, ``svg``.

    Raises:
        UserError: If a format does not exist, or no run has finished; or if a table cannot be made,
            after the others are written.
    """
    known = presets()
    wanted = formats_to_write(formats, FORMATS)
    written: list[Path] = []
    refused: list[UserError] = []
    for name, table in _tables(records):
        if isinstance(table, UserError):
            refused.append(table)
            continue
        output.mkdir(parents=True, exist_ok=True)
        for kind in wanted:
            if kind == PLOT:
                drawn = plot.draw(table, Names(known), x)
                written += save(drawn, output / name.of_file("plot.png"), pictures)
            else:
                file, text = FILES[kind]
                path = output / name.of_file(file)
                path.write_text(text(table), encoding="utf-8")
                written.append(path)
    if refused:
        raise refused[0]
    return written


def print_tables(records: Sequence[Record], console: Console | None = None) -> None:
    """Print the table; if one table would mix settings, one for each group of settings.

    Runs that failed are listed under the last table; if none has finished, only they are listed.
    """
    console = console or plain_console()
    tables = list(_tables(records))
    if len(tables) > 1:
        console.print(
            f"These runs were measured under {len(tables)} different settings: one table for each."
        )
    for _, table in tables:
        if isinstance(table, UserError):  # it must not hide the others
            console.print(str(table))
        else:
            print_runs_table(table, console)


def _tables(records: Sequence[Record]) -> Iterator[tuple[GroupName, RunsTable | UserError]]:
    """The table of each group of settings, or why it cannot be made."""
    others = [record for record in records if record.run["status"] != "ok"]
    groups = settings_groups(records) or [[]]
    known = presets()
    for group, name in zip(groups, group_names(groups), strict=True):
        shown = [*group, *(others if group is groups[-1] else [])]
        try:
            yield name, RunsTable(shown, known, name.title)
        except UserError as error:
            yield name, error


def plain_console() -> Console:
    """A console without markup, wide where the output is not a terminal."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(width=width, markup=False, highlight=False)
