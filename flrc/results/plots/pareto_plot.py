"""Quality against what it costs: parameters stored, and parameters that a step reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flrc.results.plots.lines import lines
from flrc.results.plots.methods import DENSE
from flrc.results.plots.names import Names
from flrc.results.plots.panel import Panel, errors_note, headline_columns, looks_of
from flrc.results.plots.style import TEXT, across, method_legend, panel_grid
from flrc.results.records.record import Record
from flrc.results.tables.columns import Column, settings_groups
from flrc.results.tables.runs_table import RunsTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPEED = {"tokens_per_second", "speedup"}
"""Headline metrics that are not about quality; :mod:`~.speed_plot` shows them."""
COSTS = ("stored", "rate")
"""Costs that are compared, by the names of :data:`~flrc.results.plots.panel.AXES`."""
APART = 0.01
"""Share of the largest cost by which two points must differ to show its effect."""
HEIGHT = 2.3


def draw(
    records: Sequence[Record], names: Names | None = None, costs: Sequence[str] = COSTS
) -> list[Figure]:
    """Draw a row of panels for each cost and model, and a column for each headline metric.

    Records that were measured under several settings make several figures. There is none if no two
    points of a metric differ in their costs.
    """
    names = names or Names()
    drawn: list[Figure] = []
    for group in settings_groups(records):
        drawn += _draw(RunsTable(group, names.presets), names, costs)
    return drawn


def quality(table: RunsTable) -> list[Column]:
    """The headline metrics that measure the quality of the answers."""
    return [column for column in headline_columns(table) if column.metric not in SPEED]


def axes_of(table: RunsTable, costs: Sequence[str] = COSTS) -> list[tuple[str, str]]:
    """Model and cost (see :data:`flrc.results.plots.panel.AXES`) of each row of panels.

    If every step reads all stored parameters (nothing is shared, skipped or switched), both costs
    are the same, and one row is enough.
    """
    return [
        (model, x)
        for model in table.models
        for x in costs
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


def _draw(table: RunsTable, names: Names, costs: Sequence[str]) -> list[Figure]:
    rows = axes_of(table, costs)
    columns = [c for c in quality(table) if any(_apart(_places(table, *row, c)) for row in rows)]
    if not columns:
        return []
    looks = looks_of(table, names)
    every = [(Panel(table, model, c, looks, names), x) for model, x in rows for c in columns]
    places = [(panel, x) for panel, x in every if panel.measured]
    figure, panels = panel_grid(len(places), HEIGHT, across(len(columns)))
    lines(panels, places)
    if len(table.models) == 1:
        figure.suptitle(names.model(table.models[0]), fontsize=TEXT)
    method_legend(figure, looks.values(), errors_note([panel for panel, _ in places]))
    return [figure]


def _places(table: RunsTable, model: str, x: str, column: Column) -> list[float]:
    panel = Panel(table, model, column, {}, Names())
    return [
        panel.position(key, x)
        for key in table.keys
        if key[0] == model and key[2] != DENSE and table.value(key, column.name)
    ]


def _apart(places: list[float]) -> bool:
    known = [place for place in places if math.isfinite(place)]
    return bool(known) and max(known) - min(known) > APART * max(known)
