"""The plot of a table of runs: headline metrics against the rate, or bars at a single rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.results.plots.style import colour, finish, legend, marker, save
from flrc.results.records.headline import headline
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import shown_mean
from flrc.results.tables.runs_table import RowKey, RunsTable
from flrc.results.tables.value import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "rate": "rate (share of target parameters not used per step)",
    "stored": "parameters of targets stored (% of dense)",
}
"""What a plot can be drawn against."""

DENSE = "dense"
PANELS_ACROSS = 4
LOG_SPAN = 5.0
"""A lower-is-better metric that spans more than this factor gets a logarithmic axis."""
BAR_LOG_SPAN = 100.0
"""The same for bars, whose lengths mean less on a logarithmic axis."""


def draw(table: RunsTable, path: Path, x: str = "rate") -> list[Path]:
    """Draw one panel per model (rows) and headline metric (columns).

    Args:
        table: The table. Values that are not finite are not drawn; a line in the panel names them.
        path: The PNG file.
        x: ``rate``, or ``stored`` for the stored parameters; metrics measured under a schedule are
            drawn at the rate at which they were measured.
    """
    from matplotlib.figure import Figure

    columns = headline_columns(table)
    if not columns:
        return []
    methods = compressed_methods(table)
    rates = {rate for _, rate, method in table.keys if method != DENSE}
    bars = len(rates) <= 1
    across = min(len(columns), PANELS_ACROSS)
    down = math.ceil(len(columns) / across)  # of panels, for one model
    height = max(2.0, 0.7 + 0.36 * (len(methods) + 1)) if bars else 3.1
    margin = 0.07 * max([0, *(len(m) - 6 for m in methods)]) if bars else 0.0  # for long labels
    size = (max(4.2, (3.7 + margin) * across), height * down * len(table.models) + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down * len(table.models), across, squeeze=False).flatten()
    for place, axes in enumerate(panels):
        number, panel = divmod(place, down * across)
        if panel >= len(columns):
            axes.set_axis_off()
            continue
        model, column = table.models[number], columns[panel]
        title(axes, table, model, column)
        if bars:
            _bars(axes, table, model, column, [DENSE, *methods])
        else:
            lines(axes, table, model, column, methods, x)
    if not bars:
        legend(figure, list(panels), 2 * across)
    model = table.models[0] if len(table.models) == 1 else ""
    rate = f"rate {next(iter(rates)):g}" if bars and rates else ""
    figure.suptitle(", ".join(part for part in (model, rate) if part), fontsize=11)
    return save(figure, path)


def compressed_methods(table: RunsTable) -> list[str]:
    """The row labels without dense, in order."""
    return [m for m in dict.fromkeys(method for _, _, method in table.keys) if m != DENSE]


def title(axes: Axes, table: RunsTable, model: str, column: Column) -> None:
    """Write the metric above a panel, and the model if there are several."""
    above = f"{model}\n" if len(table.models) > 1 else ""
    axes.set_title(above + column.title, fontsize=9)


def headline_columns(table: RunsTable) -> list[Column]:
    """The columns of the headline metrics."""
    measured = (column for column in table.columns if column.settings or "/" in column.name)
    by_name = {c.name: c for c in measured if c.higher_is_better is not None}
    return [by_name[name] for name in headline(by_name)]


def lines(
    axes: Axes, table: RunsTable, model: str, column: Column, methods: list[str], x: str
) -> None:
    """Draw one panel: a line for each method over its rates, the dense model as a dashed line.

    Equal places in ``methods`` have equal colours in every panel; ``x`` is that of :func:`draw`.
    """
    lost = []
    drawn: list[float] = []
    for place, method in enumerate(methods):
        points = []
        for key, value in _values(table, model, method, column):
            if math.isfinite(value.mean):
                points.append((position(table, key, column, x), value.mean, _deviation(value)))
            else:
                lost.append(f"{method} at {key[1]:g}: {shown_mean(value)}")
        if not points:
            continue
        at, values, deviations = zip(*sorted(points), strict=True)
        drawn += values
        axes.errorbar(
            at,
            values,
            yerr=deviations,
            label=method,
            color=colour(place),
            marker=marker(place),
            markersize=max(5.0, 8.0 - place),  # later lines are thinner: equal ones both show
            linewidth=max(1.0, 2.6 - 0.4 * place),
            capsize=2,
        )
    dense = _dense(table, model, column)
    if dense is not None:
        axes.axhline(dense, color="0.35", linestyle="--", linewidth=1, label=DENSE)
        axes.update_datalim([(axes.dataLim.x0, dense)])
        axes.autoscale_view()
        drawn.append(dense)
    _log_axis(axes, column, drawn)
    axes.set_xlabel(_axis_title(table, column, x), fontsize=9)
    _finish(axes, lost)


def _bars(axes: Axes, table: RunsTable, model: str, column: Column, methods: list[str]) -> None:
    names, values, texts, deviations, colours = [], [], [], [], []
    for place, method in enumerate(methods):
        for _, value in _values(table, model, method, column):
            names.append(method)
            texts.append(shown_mean(value))
            values.append(value.mean if math.isfinite(value.mean) else 0.0)
            deviations.append(_deviation(value))
            colours.append("0.6" if method == DENSE else colour(place - 1))
    errors = deviations if any(deviations) else None
    axes.barh(names, values, 0.65, xerr=errors, color=colours, error_kw={"elinewidth": 1})
    for row, (mean, deviation) in enumerate(zip(values, deviations, strict=True)):
        at = max(0.0, mean + deviation)
        axes.text(at, row, f" {texts[row]}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    if _spans(column, values, BAR_LOG_SPAN):
        axes.set_xscale("log")  # a bar then begins at the left edge, not at zero
        axes.set_xlim(min(values) / 2, max(values) * 20)
    elif min(values, default=0.0) >= 0:
        axes.set_xlim(left=0, right=None if any(values) else 1)
    _finish(axes, [])


def position(table: RunsTable, key: RowKey, column: Column, x: str) -> float:
    """The position of a row on the axis ``x``; NaN if its runs do not have it."""
    names = ("stored",) if x == "stored" else (f"{column.group}/rate", "realised")
    values = (table.value(key, name) for name in names)
    return next((value.mean for value in values if value), math.nan)


def _axis_title(table: RunsTable, column: Column, x: str) -> str:
    if x == "rate" and f"{column.group}/rate" in {c.name for c in table.columns}:
        return "rate, average over generation"
    return "rate" if x == "rate" else AXES[x]


def _values(
    table: RunsTable, model: str, method: str, column: Column
) -> list[tuple[RowKey, Value]]:
    """The rows of a method in which the metric was measured."""
    rows = [key for key in table.keys if key[0] == model and key[2] == method]
    return [(key, value) for key in rows if (value := table.value(key, column.name))]


def _deviation(value: Value) -> float:
    deviation = value.deviation or 0.0
    return deviation if math.isfinite(deviation) else 0.0


def _dense(table: RunsTable, model: str, column: Column) -> float | None:
    means = [value.mean for _, value in _values(table, model, DENSE, column)]
    return means[0] if means and math.isfinite(means[0]) else None


def _spans(column: Column, values: list[float], factor: float) -> bool:
    """Whether a lower-is-better metric spans more than a factor."""
    if column.higher_is_better or not values or min(values) <= 0:
        return False
    return max(values) / min(values) > factor


def _log_axis(axes: Axes, column: Column, values: list[float]) -> None:
    if _spans(column, values, LOG_SPAN):
        from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)  # else a tick at a million turns those below into 0.000
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(NullFormatter())


def _finish(axes: Axes, lost: list[str]) -> None:
    finish(axes)
    if lost:
        axes.text(0.02, 0.98, "not drawn: " + "; ".join(lost), transform=axes.transAxes,
                  fontsize=7, va="top", color="#AA3333", wrap=True)  # fmt: skip
