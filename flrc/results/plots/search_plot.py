"""Cost of the search: seconds for the ranks, and seconds for the schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from flrc.results.plots.axes import log_scale
from flrc.results.plots.methods import Look
from flrc.results.plots.names import Names, percent
from flrc.results.plots.style import GREY, SMALL, TEXT, finish, finished, legend
from flrc.results.records.record import Record
from flrc.results.records.store import requested_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW, CHARACTER = 0.24, 0.062
"""Inches of a row, and of a character of a method's name."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one method at one rate, means over its runs.

    Attributes:
        name: Method, and rate unless all have the same.
        look: Colour and marker of the method.
        ranks: For scores and for measuring models with trial ranks; 0 if the ranks need neither,
            None if no record has it (read from the cache, or not recorded).
        schedule: For comparing schedules on generated replies; None if there was no search.
    """

    name: str
    look: Look
    ranks: float | None
    schedule: float | None


def costs(records: Sequence[Record], names: Names | None = None) -> list[Cost]:
    """The cost of every method at every rate, the most expensive first; none if no run searched."""
    runs, names = finished(records), names or Names()
    groups: dict[str, list[tuple[Record, Look]]] = defaultdict(list)
    looks = names.looks_of(runs)
    one_rate = len({requested_rate(record) for record in runs}) == 1
    labels = names.run_names(runs)
    for record, look, name in zip(runs, looks, labels, strict=True):
        group = name.partition(", seed ")[0]
        if one_rate:
            group = group.replace(f", {percent(requested_rate(record))}", "")
        groups[group].append((record, look))
    all_costs = [
        Cost(
            name,
            group[0][1],
            _mean([_ranks(record) for record, _ in group]),
            _mean([_schedule(record) for record, _ in group]),
        )
        for name, group in groups.items()
    ]
    if not any(cost.ranks or cost.schedule for cost in all_costs):
        return []
    known = (cost for cost in all_costs if cost.ranks is not None or cost.schedule)
    return sorted(known, key=lambda cost: -((cost.ranks or 0) + (cost.schedule or 0)))


def draw(records: Sequence[Record], names: Names | None = None) -> list[Figure]:
    """Draw the seconds for the ranks as a filled marker, for the schedule as a hollow one."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = costs(records, names)
    if not shown:
        return []
    rates = {requested_rate(record) for record in finished(records)}
    schedules = any(cost.schedule for cost in shown)
    positive = [v for cost in shown for v in (cost.ranks, cost.schedule) if v]
    left = min(positive) / 2
    longest = max(len(cost.name) for cost in shown)
    row = ROW * (1.7 if schedules else 1)
    figure = Figure(
        figsize=(2.6 + CHARACTER * longest, 0.75 + row * len(shown)), layout="constrained"
    )
    axes = figure.subplots()
    for place, cost in enumerate(shown):
        apart = 0.22 if cost.schedule else 0.0
        marks = [(place - apart, cost.ranks, cost.look.colour)]
        marks += [(place + apart, cost.schedule, "white")] if cost.schedule else []
        for y, value, face in marks:
            if value:
                axes.plot([left, value], [y, y], color=cost.look.colour, linewidth=1.2)
                axes.plot([value], [y], cost.look.marker, color=cost.look.colour, markersize=6,
                          markerfacecolor=face)  # fmt: skip
            axes.annotate(_text(value), (value or left, y), xytext=(6, 0), va="center",
                          textcoords="offset points", fontsize=SMALL)  # fmt: skip
    log_scale(axes, "x", left, max(positive) * (max(positive) / left) ** 0.18)
    axes.set_yticks(range(len(shown)), [cost.name for cost in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("search time (seconds)", fontsize=SMALL)
    if len(rates) == 1:
        axes.set_title(f"rate {percent(rates.pop())}", fontsize=TEXT)
    finish(axes, "x")
    if schedules:
        kinds = {"search for the ranks": GREY, "for the schedule": "white"}
        marks_of = {
            text: Line2D([], [], color=GREY, marker="o", linestyle="none", markerfacecolor=face)
            for text, face in kinds.items()
        }
        legend(figure, marks_of)
    return [figure]


def _text(seconds: float | None) -> str:
    if seconds is None:
        return "not timed: from the cache"
    if seconds == 0:
        return "no search"
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def _ranks(record: Record) -> float | None:
    stage = [s for s in record.meta.get("stages", []) if s["name"] == "sensitivity"]
    search = record.results.get("search", {}).get("seconds")
    if any(s["cached"] for s in stage) or (search is None and not stage):
        return None
    return float(search or 0) + sum(float(s["seconds"]) for s in stage)


def _schedule(record: Record) -> float | None:
    seconds = (record.meta.get("schedule_search_seconds") or {}).get("all")
    return float(seconds) if seconds else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None
