"""A table as cells of text, before any markup: what all output formats share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flrc.results.records.run_key import RunKey
from flrc.results.tables.columns import Column
from flrc.results.tables.value import Value

MISSING = "\N{EN DASH}"
"""Text of a cell that was not measured."""
PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}
"""Decimal prefixes of counts, the largest first."""

LEFT = frozenset(
    {
        "model",
        "method",
        "better",
        "worse",
        "metric",
        "score",
        "schedule",
        "search",
        "precision",
        "verdict",
    }
)
"""Titles of columns that hold text, which is aligned to the left."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        best: Whether it is the best of its column in its rate group.
        note: Number of the footnote that says what is missing; 0 for none.
        runs: Keys of the runs behind it.
    """

    text: str
    best: bool = False
    note: int = 0
    runs: Sequence[RunKey] = ()


@dataclass(frozen=True)
class Row:
    """One row: label cells, value cells, and whether a rule separates it from the row above."""

    labels: list[str]
    cells: list[Cell]
    starts_group: bool = False


@dataclass(frozen=True)
class Grid:
    """All cells of a table; footnote number k is the k-th."""

    label_titles: list[str]
    columns: list[Column]
    rows: list[Row]
    footnotes: Sequence[str] = ()

    @property
    def cells(self) -> list[Cell]:
        """All value cells, row by row."""
        return [cell for row in self.rows for cell in row.cells]

    @property
    def has_best(self) -> bool:
        """Whether any cell is marked as the best."""
        return any(cell.best for cell in self.cells)

    @property
    def numbered_footnotes(self) -> list[str]:
        """The footnotes, each behind its number."""
        return [f"[{k}] {text}" for k, text in enumerate(self.footnotes, start=1)]


def number(value: float, unit: str) -> str:
    """A number for reading; the CSV file has full precision.

    Rates have four decimals, counts of parameters and bytes a decimal prefix, seconds three
    digits, steps no decimals and nats three; everything else two decimals below 1000, none below
    100,000, and an exponent above.
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
    if unit == "steps":
        return f"{value:.0f}"
    if unit == "nats" and 0.001 <= abs(value) < 1000:
        return f"{value:.3f}"
    if unit == "s":
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
    if 0 < abs(value) < 0.01 or abs(value) >= 1e5:
        return f"{value:.2e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def shown_mean(value: Value) -> str:
    """The mean for reading."""
    return number(value.mean, value.unit)


def shown_value(value: Value | None, *, item_errors: bool) -> str:
    """The text of a cell: mean and spread.

    For ``item_errors`` see :class:`~flrc.results.tables.layout.Layout`.
    """
    if value is None:
        return MISSING
    mean = shown_mean(value)
    if item_errors:
        error = value.stderr if value.deviation is None else value.deviation
        if error is None or "e" in mean or not math.isfinite(error + value.mean):
            return mean
        return f"{mean} ± {_like(mean, error)}"
    if value.deviation is None:
        return mean
    spread = _like(mean, value.deviation)
    if value.higher_is_better is None and not spread.strip("0."):
        return mean  # counts do not depend on the seed, rates hardly do
    return f"{mean} ± {spread}"


def _like(mean: str, deviation: float) -> str:
    """A deviation in the unit of the mean that it belongs to, with as many decimals."""
    digits = mean.rstrip("TGMk")
    deviation /= PREFIXES.get(mean[-1], 1.0)
    if not math.isfinite(deviation) or not math.isfinite(float(digits)):
        return "NaN"
    if "e" in mean:
        return f"{deviation:.2e}"
    return f"{deviation:.{len(digits.partition('.')[2])}f}"
