"""A table in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from flrc.results.tables.columns import Column
from flrc.results.tables.footer import BEST_MARK, ROOM, footer
from flrc.results.tables.grid import LEFT, Cell, Grid, Row
from flrc.results.tables.runs_table import RunsTable

PADDING = 3
"""Characters that a column takes beside its text."""


def print_runs_table(table: RunsTable, console: Console) -> None:
    """Print a table of runs, model by model, and what is needed to read it."""
    grid, notes = table.text_grid, table.notes
    if table.title:
        console.print(Text(f"Settings: {table.title}", style="bold"))
    for model in table.models:
        console.print(Text(f"Model: {model}", style="bold"))
        print_grid(_of_model(grid, model) if len(table.models) > 1 else grid, console)
    print_lines(grid.numbered_footnotes, console)
    print_lines(notes.failed, console, "red")
    print_lines(footer(table, lambda text: _lines(text, console) <= ROOM), console)


def print_lines(lines: list[str], console: Console, style: str = "dim") -> None:
    """Print lines of text as they are, without markup."""
    for line in lines:
        console.print(Text(line, style=style))


def _lines(text: str, console: Console) -> int:
    return len(Text(text).wrap(console, console.width))


def print_grid(grid: Grid, console: Console) -> None:
    """Print a grid; where it is wider than the terminal, in parts that repeat the labels.

    Where one column does not fit beside the labels, these are broken, and no number is cut. Label
    columns without any text are left out.
    """
    grid = _without_empty_labels(grid)
    for part in _parts(grid, console.width):
        console.print(_part_of(grid, part, console.width))
        console.print()


def _without_empty_labels(grid: Grid) -> Grid:
    kept = [k for k in range(len(grid.label_titles)) if any(row.labels[k] for row in grid.rows)]
    rows = [Row([row.labels[k] for k in kept], row.cells, row.starts_group) for row in grid.rows]
    return Grid([grid.label_titles[k] for k in kept], grid.columns, rows, grid.footnotes)


def _of_model(grid: Grid, model: str) -> Grid:
    """The rows of one model, without the column that names it: a narrower table."""
    rows = [
        Row(row.labels[1:], row.cells, row.starts_group)
        for row in grid.rows
        if row.labels[0] == model
    ]
    return Grid(grid.label_titles[1:], grid.columns, rows, grid.footnotes)


def _parts(grid: Grid, width: int) -> list[list[int]]:
    """Column numbers, split so that each part fits beside the label columns."""
    labels = _label_width(grid)
    parts: list[list[int]] = [[]]
    used = labels
    for k in range(len(grid.columns)):
        needed = _width(grid, k)
        if parts[-1] and used + needed > width:
            parts.append([])
            used = labels
        parts[-1].append(k)
        used += needed
    return parts


def _label_width(grid: Grid) -> int:
    return sum(
        PADDING + max(len(title), *(len(row.labels[k]) for row in grid.rows))
        for k, title in enumerate(grid.label_titles)
    )


def _width(grid: Grid, k: int) -> int:
    """Characters that value column ``k`` takes."""
    cells = (len(_text(row.cells[k]).plain) for row in grid.rows)
    return PADDING + max(*(len(line) for line in _title(grid.columns[k]).split("\n")), *cells)


def _part_of(grid: Grid, part: list[int], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    fits = _label_width(grid) + sum(_width(grid, k) for k in part) <= width
    for title in grid.label_titles:
        left = title in LEFT
        justify: JustifyMethod = "left" if left else "right"
        table.add_column(Text(title), justify=justify, no_wrap=left and fits, overflow="fold")
    for k in part:
        table.add_column(Text(_title(grid.columns[k])), justify="right", no_wrap=True)
    for number, row in enumerate(grid.rows):
        if number > 0 and row.starts_group:
            table.add_section()
        labels = [Text(label) for label in row.labels]
        table.add_row(*labels, *(_text(row.cells[k]) for k in part))
    return table


def _title(column: Column) -> str:
    unit = "" if column.unit in {"", "rate", column.metric} else column.unit
    lines = [column.group, f"{column.metric} {column.arrow}".rstrip()]
    return "\n".join([*lines, unit] if unit else lines)


def _text(cell: Cell) -> Text:
    text = Text(cell.text, style="bold green" if cell.best else "")
    text.append(BEST_MARK if cell.best else "" if cell.note else " ")
    return text.append(f" [{cell.note}]", style="dim") if cell.note else text
