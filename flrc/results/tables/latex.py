"""A table in LaTeX (package booktabs)."""

from __future__ import annotations

from flrc.results.tables.grid import LEFT, Cell, Grid, lay_out
from flrc.results.tables.notes import BEST
from flrc.results.tables.table import Table

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


def render(table: Table) -> str:
    r"""A ``table`` environment to ``\input``; needs ``\usepackage{booktabs,graphicx}``."""
    grid = lay_out(table)
    lines = ["% needs \\usepackage{booktabs,graphicx}", r"\begin{table}", r"\centering"]
    lines += tabular(grid)
    models = ", ".join(table.models)
    lines.append(rf"\caption{{Model: {escape(models)}.}}")
    notes = table.notes
    below = [f"[{k}] {text}" for k, text in enumerate(grid.footnotes, start=1)]
    marked = any(cell.best for row in grid.rows for cell in row.cells)
    below += [f"Bold: {BEST}"] * marked
    below += [*notes.general, *notes.failed, *notes.settings, *notes.provenance]
    lines += [r"\par\raggedright\footnotesize", *(rf"{escape(text)}\par" for text in below)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def tabular(grid: Grid) -> list[str]:
    """A grid as a ``tabular`` that is no wider than the line."""
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
    cells, rules = [""] * labels, []
    start = 0
    while start < len(names):
        end = start
        while end + 1 < len(names) and names[end + 1] == names[start]:
            end += 1
        cells.append(rf"\multicolumn{{{end - start + 1}}}{{c}}{{{escape(names[start])}}}")
        rules.append(rf"\cmidrule(lr){{{labels + start + 1}-{labels + end + 1}}}")
        start = end + 1
    return " & ".join(cells), " ".join(rules)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    return f"{text}\\,[{cell.note}]" if cell.note else text
