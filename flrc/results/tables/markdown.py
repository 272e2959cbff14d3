"""A table in Markdown."""

from __future__ import annotations

from flrc.results.tables.grid import LEFT, Cell, Grid
from flrc.results.tables.runs_table import RunsTable


def markdown_page(table: RunsTable) -> str:
    """A table of runs as a GitHub-flavoured Markdown page, notes below it."""
    parts = [f"Settings: {escape(table.title)}", ""] if table.title else []
    parts += [f"Model: {', '.join(escape(model) for model in table.models)}", ""]
    parts += [*markdown_table(table.text_grid), ""]
    notes = table.notes
    for title, texts in (
        ("Reading", table.reading),
        ("Failed or unfinished", notes.failed),
        ("Settings", notes.settings),
        ("Made with", notes.provenance),
    ):
        if texts:
            parts += [f"**{title}**", "", *(f"- {escape(text)}" for text in texts), ""]
    return "\n".join(parts).rstrip() + "\n"


def markdown_table(grid: Grid) -> list[str]:
    """The lines of a table, its footnotes below it."""
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
    notes = [f"- {escape(text)}" for text in grid.numbered_footnotes]
    return [*table, "", *notes] if notes else table


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} [{cell.note}]" if cell.note else text


def escape(text: str) -> str:
    """Escape what would be read as markup: table bars, emphasis, HTML, line breaks."""
    for character in "\\|*`<":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
