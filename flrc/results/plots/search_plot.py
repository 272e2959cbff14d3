"""Cost of the search: seconds for the ranks, and seconds for the schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from flrc.results.plots.style import COLOURS, finish, finished, names, save
from flrc.results.records.record import Record
from flrc.results.tables.labels import Presets

RANKS, SCHEDULE = COLOURS[0], COLOURS[4]


@dataclass(frozen=True)
class Cost:
    """Seconds of one method at one rate, means over its runs.

    Attributes:
        ranks: For scores and for measuring models with trial ranks; 0 if the ranks need neither,
            None if no record has it (read from the cache, or not recorded).
        schedule: For comparing schedules on generated replies; None if there was no search.
    """

    name: str
    ranks: float | None
    schedule: float | None


def costs(records: Sequence[Record], presets: Presets | None = None) -> list[Cost]:
    """The cost of every method at every rate, the most expensive first; none if no run searched."""
    runs = finished(records)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record, name in zip(runs, names(runs, presets), strict=True):
        groups[name.partition(", seed ")[0]].append(record)
    all_costs = [
        Cost(name, _mean(map(_ranks, group)), _mean(map(_schedule, group)))
        for name, group in groups.items()
    ]
    if not any(cost.ranks or cost.schedule for cost in all_costs):
        return []
    known = (cost for cost in all_costs if cost.ranks is not None or cost.schedule)
    return sorted(known, key=lambda cost: -((cost.ranks or 0) + (cost.schedule or 0)))


def draw(records: Sequence[Record], path: Path, presets: Presets | None = None) -> list[Path]:
    """Draw one bar for the ranks and, where schedules were searched, one below for the schedule."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = costs(records, presets)
    if not shown:
        return []
    schedules = any(cost.schedule for cost in shown)
    positive = [v for cost in shown for v in (cost.ranks, cost.schedule) if v]
    left = min(positive) / 3
    longest = max(len(cost.name) for cost in shown)
    height = 0.9 + (0.5 if schedules else 0.32) * len(shown)
    figure = Figure(figsize=(4.6 + 0.065 * longest, height), layout="constrained")
    axes = figure.subplots()
    thick = 0.36 if schedules else 0.65
    for row, cost in enumerate(shown):
        at = row - thick / 2 if schedules else row
        bars = [(at, cost.ranks, RANKS, "ranks")]
        bars += [(at + thick, cost.schedule, SCHEDULE, "schedule")] if cost.schedule else []
        for y, value, fill, label in bars:
            if value:
                axes.barh(y, value - left, thick, left=left, color=fill, label=label)
            axes.text(max(value or 0, left), y, f" {_text(value)}", va="center", fontsize=9)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if max(positive) > 30 * left else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(left, max(positive) * 6)
    axes.set_yticks(range(len(shown)), [cost.name for cost in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("seconds", fontsize=9)
    finish(axes, "x")
    if schedules:
        entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(list(entries.values()), list(entries), title="search for the", frameon=False,
                    loc="lower right", fontsize=9, title_fontsize=9)  # fmt: skip
    return save(figure, path)


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


def _mean(values: map[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None
