"""A table in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from flrc.results.tables.columns import Column
from flrc.results.tables.grid import LEFT, Cell, Grid, Row, lay_out
from flrc.results.tables.notes import BEST
from flrc.results.tables.table import Table

BEST_MARK = "*"
"""Behind the best cells: a terminal without colours, or a file, shows it too."""
PADDING = 3
"""Characters that a column takes beside its text."""


def show(table: Table, console: Console) -> None:
    """Print the table; where it is wider than the terminal, in parts that repeat the labels."""
    grid = lay_out(table)
    for model in table.models:
        own = _of_model(grid, model) if len(table.models) > 1 else grid
        console.print(Text(f"Model: {model}", style="bold"))
        print_grid(own, console)
    notes = table.notes
    for k, text in enumerate(grid.footnotes, start=1):
        console.print(Text(f"[{k}] {text}", style="dim"))
    if any(cell.best for row in grid.rows for cell in row.cells):
        console.print(Text(f"{BEST_MARK}: {BEST}", style="dim"))
    for text in notes.failed:
        console.print(Text(text, style="red"))
    for text in [*notes.general, *notes.settings, *notes.provenance]:
        console.print(Text(text, style="dim"))


def print_grid(grid: Grid, console: Console) -> None:
    """Print a grid; where it is wider than the terminal, in parts that repeat the labels."""
    for part in _parts(grid, console.width):
        console.print(_rich(grid, part))
        console.print()


def _of_model(grid: Grid, model: str) -> Grid:
    """The rows of one model without the column that says so: a narrower table."""
    rows = [
        Row(row.labels[1:], row.cells, row.starts_group)
        for row in grid.rows
        if row.labels[0] == model
    ]
    return Grid(grid.label_titles[1:], grid.columns, rows, grid.footnotes)


def _parts(grid: Grid, width: int) -> list[list[int]]:
    """Column numbers, in runs that fit beside the label columns."""
    labels = sum(
        PADDING + max(len(title), *(len(row.labels[k]) for row in grid.rows))
        for k, title in enumerate(grid.label_titles)
    )
    parts: list[list[int]] = [[]]
    used = labels
    for k, column in enumerate(grid.columns):
        cells = (len(_cell(row.cells[k]).plain) for row in grid.rows)
        needed = PADDING + max(*(len(line) for line in _title(column).split("\n")), *cells)
        if parts[-1] and used + needed > width:
            parts.append([])
            used = labels
        parts[-1].append(k)
        used += needed
    return parts


def _rich(grid: Grid, part: list[int]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False)
    for title in grid.label_titles:
        left = title in LEFT
        table.add_column(Text(title), justify="left" if left else "right", no_wrap=left)
    for k in part:
        table.add_column(Text(_title(grid.columns[k])), justify="right", no_wrap=True)
    for number, row in enumerate(grid.rows):
        if number > 0 and row.starts_group:
            table.add_section()
        labels = [Text(label) for label in row.labels]
        table.add_row(*labels, *(_cell(row.cells[k]) for k in part))
    return table


def _title(column: Column) -> str:
    unit = "" if column.unit in {"", "rate", column.metric} else column.unit
    lines = [column.group, f"{column.metric} {column.arrow}".rstrip()]
    return "\n".join([*lines, unit] if unit else lines)


def _cell(cell: Cell) -> Text:
    text = Text(cell.text, style="bold green" if cell.best else "")
    text.append(BEST_MARK if cell.best else "" if cell.note else " ")
    return text.append(f" [{cell.note}]", style="dim") if cell.note else text
