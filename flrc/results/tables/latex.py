"""A table in LaTeX (package booktabs)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from flrc.results.tables.grid import LEFT, Cell, Grid
from flrc.results.tables.runs_table import RunsTable

PACKAGES = r"% needs \usepackage{booktabs,graphicx}"

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def latex_page(table: RunsTable) -> str:
    r"""A table of runs to ``\input``."""
    notes = table.notes
    below = [*table.text_grid.numbered_footnotes, *table.reading]
    below += [*notes.failed, *notes.settings, *notes.provenance]
    caption = f"Model: {', '.join(table.models)}."
    caption += f" Settings: {table.title}." if table.title else ""
    return "\n".join([PACKAGES, *environment(table.text_grid, caption, below)]) + "\n"


def environment(grid: Grid, caption: str, below: Iterable[str]) -> list[str]:
    """A ``table`` environment: the table, its caption, and lines of small text below it."""
    return [
        r"\begin{table}",
        r"\centering",
        *tabular(grid),
        rf"\caption{{{escape(caption)}}}",
        r"\par\raggedright\footnotesize",
        *(rf"{escape(text)}\par" for text in below),
        r"\end{table}",
    ]


def tabular(grid: Grid) -> list[str]:
    """A ``tabular`` that is no wider than the line."""
    names = [*grid.label_titles, *(column.metric for column in grid.columns)]
    layout = "".join("l" if name in LEFT else "r" for name in names)
    groups, rules = _groups([c.group for c in grid.columns], len(grid.label_titles))
    titles = grid.label_titles + [
        f"{c.metric} {'' if c.unit in {'', 'rate', c.metric} else f'({c.unit})'} {c.arrow}"
        for c in grid.columns
    ]
    lines = [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
    ]
    if any(c.group for c in grid.columns):
        lines += [f"{groups} \\\\", rules]
    lines += [
        " & ".join(escape(" ".join(title.split())) for title in titles) + r" \\",
        r"\midrule",
    ]
    for row in grid.rows:
        if row.starts_group:
            lines.append(r"\midrule")
        cells = [escape(label) for label in row.labels] + [_cell(cell) for cell in row.cells]
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def escape(text: str) -> str:
    """``text`` with every character that LaTeX would interpret, or not know, replaced."""
    return "".join(ESCAPES.get(character, character) for character in " ".join(text.split()))


def _groups(names: list[str], labels: int) -> tuple[str, str]:
    """The first heading line, equal neighbours merged, and the short rules under it."""
    cells, rules, start = [""] * labels, [], labels + 1
    for name, same in groupby(names):
        width = len(list(same))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return " & ".join(cells), " ".join(rules)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    return f"{text}\\,[{cell.note}]" if cell.note else text
