"""A panel of lines: a metric over the rates, one line for each method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flrc.results.plots.axes import (
    LOG_SPAN,
    compact,
    even_ticks,
    heights,
    log_limit,
    log_scale,
    spans,
)
from flrc.results.plots.methods import Look
from flrc.results.plots.panel import Panel, Point
from flrc.results.plots.style import SMALL, TEXT, copy_line, dense_line, finish
from flrc.results.tables.grid import shown_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = (5.8, 4.0)
"""Size of the first and of the last marker: of equal values, both show."""
RATES = 6
"""From two up to this number of rates, each has a tick."""
LABEL = 0.17
"""Share of an axis that the number of a point beyond the axis takes."""
ROW = 9.0
"""Points between two such numbers."""

Place = tuple[float, Point]
"""Position on the horizontal axis, and value."""


def lines(axes: Sequence[Axes], panels: Sequence[tuple[Panel, str]]) -> None:
    """Draw panels: a line for each method over its rates, the dense model as a dashed line.

    A collapsed model does not flatten the others: beyond the end of a logarithmic axis, an arrow
    and the number stand at the point's place.

    Args:
        axes: Where each panel is drawn.
        panels: What it shows, and its axis (see :data:`~flrc.results.plots.panel.AXES`).
    """
    rows = [_lines(place, *panel) for place, panel in zip(axes, panels, strict=True)]
    for place, (panel, _) in zip(axes, panels, strict=True):  # titles at one height
        place.set_title(panel.title, fontsize=TEXT, pad=4 + (2 + ROW * max(rows)) * any(rows))


def _lines(axes: Axes, panel: Panel, x: str) -> int:
    """Draw one panel; returns the rows of numbers above it."""
    drawn = {method: _places(panel, method, x) for method in panel.looks}
    points = [point for places in drawn.values() for _, point in places]
    _not_finite(axes, panel)
    if not points:
        finish(axes)
        return 0
    dense = panel.dense
    means = [point.mean for point in points] + ([dense.mean] if dense else [])
    log = not panel.column.higher_is_better and spans(means, LOG_SPAN)
    top = log_limit(means) if log else math.inf
    for number, (method, places) in enumerate(drawn.items()):
        _line(axes, places, panel.looks[method], number / max(1, len(drawn) - 1), top)
    _horizontal(axes, panel, drawn, x)
    _vertical(axes, panel, points, log=log, left=x == "stored")
    beyond = [
        (at, point, panel.looks[method])
        for method, places in drawn.items()
        for at, point in places
        if point.mean > top
    ]
    finish(axes)
    return _beyond(axes, beyond)


def _places(panel: Panel, method: str, x: str) -> list[Place]:
    places = [
        (panel.position(key, x), point) for key, point in panel.points(method) if point.finite
    ]
    return sorted(places, key=lambda place: place[0])


def _line(axes: Axes, places: list[Place], look: Look, order: float, top: float) -> None:
    if not places:
        return
    first, last = MARKERS
    at, points = zip(*places, strict=True)
    errors = [point.error if point.mean <= top else 0.0 for point in points]
    axes.errorbar(
        at,
        [point.mean for point in points],
        yerr=errors if any(errors) else None,
        label=look.name,
        linewidth=1.4,
        markersize=first + (last - first) * order,
        elinewidth=0.8,
        capsize=1.8,
        capthick=0.8,
        **look.options,
    )


def _horizontal(axes: Axes, panel: Panel, drawn: dict[str, list[Place]], x: str) -> None:
    places = [at for line in drawn.values() for at, _ in line if math.isfinite(at)]
    rates = sorted({point.rate for line in drawn.values() for _, point in line})
    axes.set_xlabel(panel.axis_title(x), fontsize=SMALL)
    axes.margins(x=0.08)
    if x != "rate":
        even_ticks(axes, "x")
    elif 1 < len(rates) <= RATES:
        axes.set_xticks(rates, [f"{100 * rate:g}" for rate in rates])
    else:
        even_ticks(axes, "x")
        axes.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:.3g}")
    if places and min(places) == max(places) > 0:
        axes.set_xlim(min(places) * 0.8, min(places) * 1.2)


def _vertical(axes: Axes, panel: Panel, points: list[Point], *, log: bool, left: bool) -> None:
    """Limits that hold values, errors and the dense model with its name."""
    dense = panel.dense
    shown = [*points, dense] if dense else points
    means = [point.mean for point in shown]
    if log:
        high = log_limit(means)
        lowest = [max(point.mean - point.error, min(means) / 1.5) for point in shown]
        errors = [
            min(point.mean + point.error, high * 1.3) for point in shown if point.mean <= high
        ]
        room = (max(errors) / min(lowest)) ** 0.06
        below = dense.mean / 1.5 / room if dense else math.inf
        log_scale(axes, "y", min(min(lowest) / room, below), max(errors) * room)
    else:
        low = min(point.mean - point.error for point in shown)
        high = max(point.mean + point.error for point in shown)
        room = 0.05 * ((high - low) or abs(high) or 1.0)
        if panel.copy:
            high = max(high, panel.copy.mean + 2.5 * room)
        if dense and panel.column.higher_is_better:
            high = max(high, dense.mean + 2.5 * room)
        elif dense:
            low = min(low, dense.mean - 2.5 * room)
        if min(means) >= 0:
            low = max(low, 0.0)  # an error bar may reach below, the metric does not
        axes.set_ylim(low - room, high + room)
        even_ticks(axes, "y")
    if panel.copy:
        copy_line(axes, panel.copy.mean, panel.copy_text, left=not left)
    if dense:
        above = bool(panel.column.higher_is_better)
        dense_line(axes, dense.mean, dense.error, panel.dense_text, above=above, left=left)


def _beyond(axes: Axes, points: list[tuple[float, Point, Look]]) -> int:
    """Arrows and numbers at the upper end, side by side or above each other; returns the rows."""
    low, high = axes.get_xlim()
    rows = heights([at for at, _, _ in points], LABEL * (high - low))
    top = axes.get_xaxis_transform()
    for (at, point, look), row in zip(points, rows, strict=True):
        axes.plot([at], [1], marker="^", markersize=6, color=look.colour, transform=top,
                  clip_on=False, linestyle="none")  # fmt: skip
        axes.annotate(
            compact(point.mean),
            (at, 1),
            xycoords=top,
            xytext=(0, 4 + ROW * row),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=look.colour,
        )
    return 1 + max(rows) if rows else 0


def _not_finite(axes: Axes, panel: Panel) -> None:
    lost = [
        f"{look.name} at {100 * point.rate:g} %: {shown_mean(point.value)}"
        for method, look in panel.looks.items()
        for _, point in panel.points(method)
        if not point.finite
    ]
    if lost:
        axes.text(0.02, 0.98, "not drawn: " + "; ".join(lost), transform=axes.transAxes,
                  fontsize=SMALL, va="top", color="#AA3333", wrap=True)  # fmt: skip
