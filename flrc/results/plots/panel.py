"""What a panel of a plot of a table shows: one metric of one model, method by method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flrc.results.plots.methods import DENSE, Look
from flrc.results.plots.names import Names
from flrc.results.plots.titles import title_of
from flrc.results.records.headline import headline
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import shown_mean
from flrc.results.tables.runs_table import RowKey, RunsTable
from flrc.results.tables.value import Value

AXES = {
    "rate": "rate (%)",
    "stored": "target parameters stored (%)",
    "removed": "target parameters removed (%)",
}
"""What a plot can be drawn against."""


@dataclass(frozen=True)
class Point:
    """One value of one method.

    Attributes:
        rate: Requested.
        value: Of the table.
    """

    rate: float
    value: Value

    @property
    def mean(self) -> float:
        """The mean; NaN or infinite where it is."""
        return self.value.mean

    @property
    def error(self) -> float:
        """What tables print after ±; 0 if there is none.

        It is the deviation over several seeds, else the standard error over the items of a run.
        """
        deviation = self.value.deviation
        error = self.value.stderr if deviation is None else deviation
        return error if error is not None and math.isfinite(error) else 0.0

    @property
    def finite(self) -> bool:
        """Whether it can be drawn."""
        return math.isfinite(self.mean)


@dataclass(frozen=True)
class Panel:
    """One metric of one model in a table of runs.

    Attributes:
        looks: The look of each row label without dense, in the order of the table.
    """

    table: RunsTable
    model: str
    column: Column
    looks: dict[str, Look]
    names: Names

    @property
    def title(self) -> str:
        """The metric, and the model if there are several."""
        above = f"{self.names.model(self.model)}\n" if len(self.table.models) > 1 else ""
        return above + title_of(self.column)

    def points(self, method: str) -> list[tuple[RowKey, Point]]:
        """The rows of a method in which the metric was measured."""
        rows = [key for key in self.table.keys if key[0] == self.model and key[2] == method]
        return [
            (key, Point(key[1], value))
            for key in rows
            if (value := self.table.value(key, self.column.name))
        ]

    @property
    def measured(self) -> bool:
        """Whether a method has a value here."""
        return any(self.points(method) for method in self.looks)

    @property
    def dense(self) -> Point | None:
        """The dense model; None if it was not measured."""
        known = [point for _, point in self.points(DENSE) if point.finite]
        return known[0] if known else None

    @property
    def dense_text(self) -> str:
        """What stands at the line of the dense model."""
        assert self.dense is not None
        return f"{DENSE} {shown_mean(self.dense.value)}"

    @property
    def copy(self) -> Value | None:
        """The score of a copy of the source in place of every reply; None if it was not taken."""
        name = f"{self.column.group}/copy_{self.column.metric}"
        values = (self.table.value(key, name) for key in self.table.keys if key[0] == self.model)
        return next((value for value in values if value and math.isfinite(value.mean)), None)

    @property
    def copy_text(self) -> str:
        """What stands at the line of a copy of the source."""
        assert self.copy is not None
        return f"copy of the source {shown_mean(self.copy)}"

    def position(self, key: RowKey, x: str) -> float:
        """The position of a row on the axis ``x``; NaN if its runs do not have it."""
        names = (f"{self.column.group}/rate", "realised") if x == "rate" else ("stored",)
        values = (self.table.value(key, name) for name in names)
        known = next((value.mean for value in values if value), math.nan)
        return 100 - known if x == "removed" else known

    def axis_title(self, x: str) -> str:
        """The title of the axis ``x``."""
        if x == "rate" and f"{self.column.group}/rate" in {c.name for c in self.table.columns}:
            return "rate, average over generation (%)"
        return AXES[x]


def headline_columns(table: RunsTable) -> list[Column]:
    """The columns of the headline metrics."""
    measured = (column for column in table.columns if column.settings or "/" in column.name)
    by_name = {c.name: c for c in measured if c.higher_is_better is not None}
    return [by_name[name] for name in headline(by_name)]


def looks_of(table: RunsTable, names: Names) -> dict[str, Look]:
    """The look of each row label without dense, in the order of the table."""
    rows: dict[str, str] = {}
    for key in table.keys:
        if key[2] != DENSE:
            rows.setdefault(key[2], table.run_ids(key)[0])
    return names.looks(rows)


def errors_note(panels: Sequence[Panel]) -> str:
    """What error bars show; empty if there are none."""
    points = [p for panel in panels for m in (DENSE, *panel.looks) for _, p in panel.points(m)]
    drawn = [point.value.deviation is not None for point in points if point.error]
    words = ["standard error over items"] * (False in drawn)
    words += ["standard deviation over seeds"] * (True in drawn)
    return f"error bars: {' (one seed), '.join(words)}" if words else ""
