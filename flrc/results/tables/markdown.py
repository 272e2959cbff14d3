"""A table in Markdown."""

from __future__ import annotations

from flrc.results.tables.grid import LEFT, Cell, Grid, lay_out
from flrc.results.tables.notes import BEST
from flrc.results.tables.table import Table


def render(table: Table) -> str:
    """The table as a GitHub-flavoured Markdown page, notes below it."""
    grid = lay_out(table)
    parts = [f"Model: {', '.join(escape(model) for model in table.models)}", ""]
    parts += [*lines(grid), ""]
    notes = table.notes
    marked = any(cell.best for row in grid.rows for cell in row.cells)
    for title, texts in (
        ("Reading", [f"Bold: {BEST}"] * marked + notes.general),
        ("Failed or unfinished", notes.failed),
        ("Settings", notes.settings),
        ("Made with", notes.provenance),
    ):
        if texts:
            parts += [f"**{title}**", "", *(f"- {escape(text)}" for text in texts), ""]
    return "\n".join(parts).rstrip() + "\n"


def lines(grid: Grid) -> list[str]:
    """A grid as the lines of a table, its footnotes below it."""
    header = grid.label_titles + [escape(column.title) for column in grid.columns]
    body = [[escape(label) for label in r.labels] + [_cell(c) for c in r.cells] for r in grid.rows]
    left = [title in LEFT for title in header]
    widths = [max(3, *(len(row[k]) for row in [header, *body])) for k in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = (
            c.ljust(w) if to_left else c.rjust(w)
            for c, w, to_left in zip(cells, widths, left, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * w if to_left else "-" * (w - 1) + ":" for w, to_left in zip(widths, left, strict=True)
    ]
    table = [line(header), line(rule), *(line(row) for row in body)]
    notes = [f"- [{k}] {escape(text)}" for k, text in enumerate(grid.footnotes, start=1)]
    return [*table, "", *notes] if notes else table


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} [{cell.note}]" if cell.note else text


def escape(text: str) -> str:
    """Keep a text from being read as markup: table bars, emphasis, HTML, line breaks."""
    for character in "\\|*`<":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
