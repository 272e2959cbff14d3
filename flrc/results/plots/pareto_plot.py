"""Quality against what it costs: parameters stored, and parameters that a step reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from flrc.results.plots.plot import (
    AXES,
    DENSE,
    compressed_methods,
    headline_columns,
    lines,
    position,
    title,
)
from flrc.results.plots.style import legend, save
from flrc.results.records.record import Record
from flrc.results.tables.columns import Column, settings_groups
from flrc.results.tables.labels import Presets
from flrc.results.tables.runs_table import RunsTable

SPEED = {"tokens_per_second", "speedup"}
"""Headline metrics that are not about quality; :mod:`~.speed_plot` shows them."""
APART = 0.01
"""Share of the largest cost by which two points must differ to show its effect."""


def draw(records: Sequence[Record], path: Path, presets: Presets | None = None) -> list[Path]:
    """Draw a row of panels for each cost and model, and a column for each headline metric.

    Records that were measured under several settings make several files, with numbered names. There
    is none if no two points of a metric differ in their costs.
    """
    written: list[Path] = []
    for group in settings_groups(records):
        name = path if not written else path.with_stem(f"{path.stem}-{len(written) + 1}")
        written += _draw(RunsTable(group, presets), name)
    return written


def quality(table: RunsTable) -> list[Column]:
    """The headline metrics that measure the quality of the answers."""
    return [column for column in headline_columns(table) if column.metric not in SPEED]


def axes_of(table: RunsTable) -> list[tuple[str, str]]:
    """Model and cost (see :data:`flrc.results.plots.plot.AXES`) of each row of panels.

    If every step reads all stored parameters (nothing is shared, skipped or switched), both costs
    are the same, and one row is enough.
    """
    return [
        (model, x)
        for model in table.models
        for x in reversed(AXES)
        if any(_apart(_places(table, model, x, column)) for column in quality(table))
        and not (x == "rate" and _mirrored(table, model))
    ]


def _mirrored(table: RunsTable, model: str) -> bool:
    """Whether every run stores exactly the parameters that a step reads."""
    return all(
        abs(stored / 100 + rate - 1) < APART
        for column in quality(table)
        for stored, rate in zip(
            _places(table, model, "stored", column),
            _places(table, model, "rate", column),
            strict=True,
        )
    )


def _draw(table: RunsTable, path: Path) -> list[Path]:
    from matplotlib.figure import Figure

    rows = axes_of(table)
    columns = [c for c in quality(table) if any(_apart(_places(table, *row, c)) for row in rows)]
    if not columns:
        return []
    methods = compressed_methods(table)
    size = (max(4.6, 3.7 * len(columns)), 3.1 * len(rows) + 0.3 * math.ceil(len(methods) / 4))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for (model, x), line in zip(rows, panels, strict=True):
        for axes, column in zip(line, columns, strict=True):
            title(axes, table, model, column)
            lines(axes, table, model, column, methods, x)
    legend(figure, list(panels.flatten()), max(1, 2 * len(columns)))
    return save(figure, path)


def _places(table: RunsTable, model: str, x: str, column: Column) -> list[float]:
    return [
        position(table, key, column, x)
        for key in table.keys
        if key[0] == model and key[2] != DENSE and table.value(key, column.name)
    ]


def _apart(places: list[float]) -> bool:
    known = [place for place in places if math.isfinite(place)]
    return bool(known) and max(known) - min(known) > APART * max(known)
