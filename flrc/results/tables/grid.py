"""A table as text cells, before any markup: what every renderer shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flrc.results.tables.columns import Column
from flrc.results.tables.table import Table

MISSING = "\N{EN DASH}"
"""What stands in a cell that was not measured."""
PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}
"""Of counts, the largest first."""

LEFT = frozenset(
    {"model", "method", "better", "worse", "metric", "score", "schedule", "precision", "verdict"}
)
"""Titles of columns that hold words."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What it says, without markup.
        best: Whether it is the best of its column in its rate group.
        note: Number of the footnote that says what is missing; 0 for none.
    """

    text: str
    best: bool = False
    note: int = 0


@dataclass(frozen=True)
class Row:
    """One row: the label cells, then the value cells.

    Attributes:
        labels: Model (where there are several), method, seeds (where there are several), rate.
        cells: One per column of the grid.
        starts_group: Whether another model or rate than in the row above begins here.
    """

    labels: list[str]
    cells: list[Cell]
    starts_group: bool


@dataclass(frozen=True)
class Grid:
    """All cells of a table.

    Attributes:
        label_titles: Headings of the label columns.
        columns: The value columns that hold anything.
        rows: The rows.
        footnotes: Texts of the footnotes; number k is the k-th.
    """

    label_titles: list[str]
    columns: list[Column]
    rows: list[Row]
    footnotes: list[str]


def lay_out(table: Table) -> Grid:
    """Format every cell, mark the best ones, number the footnotes."""
    columns = [column for column in table.columns if (table.count[column.name] > 0).any()]
    numbers = {name: k for k, name in enumerate(table.notes.missing, start=1)}
    several_models, several_seeds = len(table.models) > 1, bool((table.seeds > 1).any())
    keys = table.keys
    texts = {column.name: [_text(table, key, column) for key in keys] for column in columns}
    best = {column.name: _best(table, column, texts[column.name]) for column in columns}
    rows = []
    for number, key in enumerate(keys):
        model, rate, method = key
        labels = [method, f"{rate:g}"]
        if several_seeds:
            labels.insert(1, str(table.seeds[key]))
        if several_models:
            labels.insert(0, model)
        cells = [
            Cell(
                text=texts[column.name][number],
                best=best[column.name][number],
                note=_note(table, key, column, numbers),
            )
            for column in columns
        ]
        starts = number > 0 and keys[number - 1][:2] != key[:2]
        rows.append(Row(labels, cells, starts))
    titles = ["model"] * several_models + ["method"] + ["n"] * several_seeds + ["rate"]
    return Grid(titles, columns, rows, list(table.notes.missing.values()))


def number(value: float, unit: str) -> str:
    """A number as a person reads it; whole precision stands in the CSV file.

    Rates have four decimals, counts of parameters and bytes a decimal prefix, seconds three
    digits, everything else two decimals below 1000, none below 100,000, and an exponent above.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    if unit == "rate":
        return f"{value:.4f}"
    if unit in {"parameters", "bytes", "FLOPs"}:
        for prefix, size in PREFIXES.items():
            if abs(value) >= size:
                return f"{value / size:.1f}{prefix}"
        return f"{value:.0f}"
    if unit == "% of dense":
        return f"{value:.1f}"
    if unit == "s":
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
    if 0 < abs(value) < 0.01 or abs(value) >= 1e5:
        return f"{value:.2e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def _text(table: Table, key: tuple[str, float, str], column: Column) -> str:
    cell = table.cell(key, column.name)
    if cell.count == 0:
        return MISSING
    mean = number(cell.mean, column.unit)
    if cell.count == 1:
        return mean
    spread = _like(mean, cell.deviation)
    if column.higher_is_better is None and not spread.strip("0."):
        return mean  # counts do not change with the seed, rates hardly do
    return f"{mean} ± {spread}"


def _like(mean: str, deviation: float) -> str:
    """A deviation in the unit, and with as many decimals, as the mean that it belongs to."""
    deviation /= PREFIXES.get(mean[-1], 1.0)
    if not math.isfinite(deviation) or not math.isfinite(float(mean.rstrip("TGMk"))):
        return "NaN"
    if "e" in mean:
        return f"{deviation:.2e}"
    return f"{deviation:.{len(mean.rstrip('TGMk').partition('.')[2])}f}"


def _best(table: Table, column: Column, texts: list[str]) -> list[bool]:
    """Which rows are best of their model and rate; equal texts share it, unless all are equal."""
    marked = [False] * len(texts)
    if column.higher_is_better is None:
        return marked
    values = [table.cell(key, column.name).mean for key in table.keys]
    groups: dict[tuple[str, float], list[int]] = {}
    for row, (model, rate, method) in enumerate(table.keys):
        if method.partition(" ·")[0] != "dense" and math.isfinite(values[row]):
            groups.setdefault((model, rate), []).append(row)
    for rows in groups.values():
        if len(rows) < 2:
            continue
        top = (max if column.higher_is_better else min)(rows, key=values.__getitem__)
        shown = texts[top].partition(" ±")[0]
        equal = [row for row in rows if texts[row].partition(" ±")[0] == shown]
        for row in equal if len(equal) < len(rows) else []:
            marked[row] = True
    return marked


def _note(
    table: Table, key: tuple[str, float, str], column: Column, numbers: dict[str, int]
) -> int:
    lacks = table.cell(key, column.name).count < table.seeds[key]
    return numbers.get(column.name, 0) if lacks else 0
