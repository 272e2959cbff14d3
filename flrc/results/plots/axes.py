"""Axes that people read: plain ticks in steps of 1, 2 and 5, and limits that no outlier sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_SPAN = 5.0
"""A lower-is-better metric that spans more than this factor gets a logarithmic axis."""
LOG_REACH = 300.0
"""How many times the smallest value a logarithmic axis holds at least."""
BAR_REACH = 10.0
"""How many times the median of its values an axis of bars holds at least."""
GAP = 2.0
"""Beyond its reach, an axis ends before the first value that is more than this factor above the one
before: a model there has collapsed."""
DECADES = 3.2
"""Up to this number of decades, a logarithmic axis has ticks at 1, 2 and 5; else at 1 only."""
STEPS = (1, 2, 5, 10)


def spans(values: Sequence[float], factor: float) -> bool:
    """Whether positive values span more than a factor."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > factor


def log_limit(values: Sequence[float]) -> float:
    """The largest of positive values that a logarithmic axis shows."""
    return _limit(values, LOG_REACH * min(values))


def bar_limit(values: Sequence[float]) -> float:
    """The largest of positive values that an axis of bars shows."""
    return _limit(values, BAR_REACH * median(values))


def _limit(values: Sequence[float], reach: float) -> float:
    ordered = sorted(values)
    for one, other in pairwise(ordered):
        if other > max(reach, GAP * one):
            return one
    return ordered[-1]


def log_scale(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from ``low`` to ``high`` with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    dense = math.log10(high / low) <= DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if dense else (1,), numticks=99))
    axis.set_minor_locator(NullLocator() if dense else LogLocator(subs=(2, 5), numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def even_ticks(axes: Axes, which: Literal["x", "y"], most: int = 6) -> None:
    """At most ``most`` intervals of 1, 2 or 5 times a power of ten on a linear axis."""
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=most, steps=list(STEPS), min_n_ticks=3))


def plain(value: float) -> str:
    """A tick's number without an exponent: ``0.2``, ``50``, ``2,000``."""
    return f"{value:,.10g}" if value >= 1e-4 or value == 0 else f"{value:g}"


def compact(value: float) -> str:
    """A number in at most three digits: ``512``, ``4.1k``, ``1.05M``; ``inf`` and ``NaN``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def heights(places: Iterable[float], width: float) -> list[int]:
    """For each place, how many of those before it are closer to it than ``width``.

    Labels at these heights above each other do not overlap.
    """
    found: list[int] = []
    known: list[float] = []
    for place in places:
        found.append(sum(abs(place - other) < width for other in known))
        known.append(place)
    return found
