"""A panel of bars: a metric at a single rate, one bar for each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flrc.results.plots.axes import bar_limit, compact, even_ticks
from flrc.results.plots.methods import DENSE_COLOUR
from flrc.results.plots.panel import Panel, Point
from flrc.results.plots.style import BACKGROUND, GREY, SMALL, TEXT, finish
from flrc.results.tables.grid import MISSING, shown_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOM = 0.3
"""Share of the axis behind the longest bar, for its number."""
ROW = 9.5
"""Points between two lines of text above a panel."""


def bars(axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """Draw panels: a bar from zero for each method, its error and number; references as lines.

    A collapsed model does not flatten the others: its bar ends at the axis with an arrow and its
    number.
    """
    rows = [_bars(place, panel) for place, panel in zip(axes, panels, strict=True)]
    for place, panel in zip(axes, panels, strict=True):  # titles at one height
        place.set_title(panel.title, fontsize=TEXT, pad=4 + ROW * max(rows))


def _bars(axes: Axes, panel: Panel) -> int:
    """Draw one panel; returns the lines of text above it."""
    points: dict[str, list[Point]] = {
        method: [p for _, p in panel.points(method)] for method in panel.looks
    }
    dense = panel.dense
    means = [p.mean for some in points.values() for p in some if p.finite]
    shown = [*means, dense.mean] if dense else means
    if not shown:
        return 0
    cut = not panel.column.higher_is_better and min(shown) > 0
    top = bar_limit(shown) if cut else max(shown)
    ends = [min(p.mean + p.error, 1.5 * top) for some in points.values() for p in some
            if p.mean <= top]  # fmt: skip
    ends += [panel.copy.mean] if panel.copy else []
    end = max([0.0, top, *ends]) * 1.02 or 1.0
    for row, (method, look) in enumerate(panel.looks.items()):
        for point in points[method] or (None,):
            if point is None or not point.finite:
                text = MISSING if point is None else shown_mean(point.value)
                axes.text(0, row, f" {text}", va="center", fontsize=SMALL, color=GREY)
                continue
            inside = point.mean <= top
            reach = max(0.0, point.mean + point.error) if inside else end
            axes.barh(
                row,
                point.mean if inside else end,
                0.68,
                xerr=point.error if inside and point.error else None,
                color=look.colour if not look.variant else "white",
                edgecolor=look.colour,
                hatch=look.hatch,
                error_kw={"elinewidth": 0.9, "capsize": 2},
            )
            if not inside:
                axes.plot([end], [row], marker=">", markersize=7, color=look.colour, clip_on=False)
            axes.annotate(
                shown_mean(point.value) if inside else compact(point.mean),
                (reach, row),
                xytext=(4 if inside else 8, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=SMALL,
                bbox=BACKGROUND,
            )
    axes.set_yticks(range(len(panel.looks)), [look.name for look in panel.looks.values()])
    axes.set_ylim(len(panel.looks) - 0.4, -0.6)
    axes.set_xlim(min(0.0, *shown), end * (1 + ROOM))
    even_ticks(axes, "x", 5)
    if dense and dense.error:
        axes.axvspan(dense.mean - dense.error, dense.mean + dense.error, color="0.5", alpha=0.15,
                     linewidth=0, zorder=0)  # fmt: skip
    references = [(dense.mean, "--", panel.dense_text)] if dense else []
    references += [(panel.copy.mean, ":", panel.copy_text)] if panel.copy else []
    for height, (value, line, text) in enumerate(references):
        axes.axvline(value, color=DENSE_COLOUR, linestyle=line, linewidth=1)
        axes.annotate(text, (value, 1), xycoords=axes.get_xaxis_transform(),
                      xytext=(0, 1 + ROW * height), textcoords="offset points", ha="center",
                      va="bottom", fontsize=SMALL, color=GREY)  # fmt: skip
    finish(axes, "x")
    return len(references)
