"""The plot of a table of runs: headline metrics against the rate, or bars at a single rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flrc.results.plots.bars import bars
from flrc.results.plots.lines import lines
from flrc.results.plots.methods import DENSE
from flrc.results.plots.names import Names, percent
from flrc.results.plots.panel import Panel, errors_note, headline_columns, looks_of
from flrc.results.plots.style import CHARACTER, GREY, SMALL, TEXT, across, method_legend, panel_grid
from flrc.results.tables.runs_table import RunsTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 2.15
BAR = 0.23
"""Inches of a bar and the gap below it."""
SHORT = 6
"""Characters of a method's name for which a panel has room."""


def draw(table: RunsTable, names: Names | None = None, x: str = "rate") -> list[Figure]:
    """Draw one panel per model (rows) and headline metric (columns).

    Args:
        table: The table. Values that are not finite are not drawn; a line in the panel names them.
        names: How plots call the runs; as the table does unless given.
        x: ``rate``, ``stored`` or ``removed`` (see :data:`~flrc.results.plots.panel.AXES`); metrics
            measured under a schedule are drawn at the rate at which they were measured.
    """
    names = names or Names()
    columns = headline_columns(table)
    looks = looks_of(table, names)
    if not columns or not looks:
        return []
    rates = {rate for _, rate, method in table.keys if method != DENSE}
    single = len(rates) == 1
    every = [Panel(table, model, c, looks, names) for model in table.models for c in columns]
    panels = [panel for panel in every if panel.measured]
    if not panels:
        return []
    height = 0.9 + BAR * len(looks) if single else HEIGHT
    figure, axes = panel_grid(
        len(panels), height, across(len(columns)), **({"sharey": "row"} if single else {})
    )
    note = errors_note(panels)
    if single:
        longest = max(len(look.name) for look in looks.values())
        figure.set_figwidth(figure.get_figwidth() + CHARACTER * (longest - SHORT))
        bars(axes, panels)
        figure.supxlabel(note, fontsize=SMALL, color=GREY)
    else:
        lines(axes, [(panel, x) for panel in panels])
        method_legend(figure, looks.values(), note)
    title = [names.model(model) for model in table.models if len(table.models) == 1]
    title += [f"rate {percent(rate)}" for rate in rates if single]
    figure.suptitle(", ".join(title), fontsize=TEXT)
    return [figure]
