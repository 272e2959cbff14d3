"""One table of a study with its text, and the runs behind every cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flrc.errors import UserError
from flrc.results.records.record import Record
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.grid import Grid, lay_out
from flrc.results.tables.labels import Presets
from flrc.results.tables.notes import BEST
from flrc.results.tables.table import Table, build


@dataclass(frozen=True)
class Section:
    """A part of a study's page.

    Attributes:
        title: Heading; empty for none.
        text: Paragraphs that stand below the table.
        grid: The table; None for text alone.
        runs: ``runs[row][column]`` are the ids of the runs behind the cell; None where the cells
            come from no run.
    """

    title: str
    text: list[str]
    grid: Grid | None = None
    runs: list[list[list[str]]] | None = None


def from_records(records: Iterable[Record], presets: Presets, title: str = "") -> list[Section]:
    """One section for each group of runs that were measured under the same settings.

    Args:
        records: Runs that are shown together; those that did not finish are left to the reader of
            the list of runs.
        presets: The components of each method's preset, for the row labels.
        title: Heading of the sections; a number follows where there are several.
    """
    groups = settings_groups([record for record in records if record.run["status"] == "ok"])
    found = []
    for number, group in enumerate(groups, start=1):
        several = len(groups) > 1
        heading = ", ".join([title] * bool(title) + [f"settings {number}"] * several)
        try:
            table = build(group, presets)
        except UserError as error:  # a table that cannot be made must not hide the ones that can
            found.append(Section(heading, [str(error)]))
            continue
        grid = lay_out(table)
        text = [f"Model: {', '.join(table.models)}."] if len(table.models) == 1 else []
        marked = any(cell.best for row in grid.rows for cell in row.cells)
        text += table.notes.settings if several else []
        text += [f"Bold: {BEST}"] * marked + table.notes.general
        found.append(Section(heading, text, grid, _runs(table, grid, group)))
    return found


def _runs(table: Table, grid: Grid, records: Sequence[Record]) -> list[list[list[str]]]:
    """Ids of each row's runs; in columns of measurements of those that measured it."""
    measured = {str(r.run["id"]): {m.name for m in r.measurements} for r in records}
    rows = [ids.split(", ") for ids in table.runs]
    return [
        [[run for run in row if column.name in measured[run]] or row for column in grid.columns]
        for row in rows
    ]
