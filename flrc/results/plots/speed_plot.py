"""Decoding speed, dense beside compressed, timed in turns in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.core.jsonfile import canonical
from flrc.results.plots.style import colour, finish, finished, legend, names, panel_grid, save
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.labels import Presets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPEED = "tokens_per_second"
SPEEDUPS = ("speedup_lowest", "speedup", "speedup_highest")
ACROSS = 3


@dataclass(frozen=True)
class Pair:
    """One compressed run and the dense model beside it, in tokens per second.

    Attributes:
        method: Row label.
        rate: Requested.
        speedup: Lowest, median and highest ratio of two timings, one taken right after the other.
        setting: Model, part and settings, which are equal within a panel.
    """

    method: str
    rate: float
    compressed: float
    dense: float
    speedup: tuple[float, float, float]
    setting: dict[str, Any]


def pairs(records: Sequence[Record], presets: Presets | None = None) -> list[Pair]:
    """Every timed pair, by rate."""
    timed: dict[str, list[tuple[Record, dict[str, Any]]]] = {}
    for record in finished(records):
        for measured in record.measurements:
            part, _, metric = measured.name.rpartition("/")
            if metric == SPEED:
                setting = {"model": model_name(record), "part": part, **measured.settings}
                timed.setdefault(canonical(setting), []).append((record, setting))
    timed_pairs = []
    for group in timed.values():
        methods = names([record for record, _ in group], presets, rate=False)
        for (record, setting), method in zip(group, methods, strict=True):
            part = f"{setting['part']}/"
            value = {m.name.removeprefix(part): m.value for m in record.measurements}
            if not {f"dense_{SPEED}", *SPEEDUPS} <= value.keys():
                continue  # the dense run itself, or a run without a dense one beside it
            low, median, high = (value[key] for key in SPEEDUPS)
            timed_pairs.append(
                Pair(
                    method,
                    requested_rate(record),
                    value[SPEED],
                    value[f"dense_{SPEED}"],
                    (low, median, high),
                    setting,
                )
            )
    return sorted(timed_pairs, key=lambda pair: pair.rate)


def draw(records: Sequence[Record], path: Path, presets: Presets | None = None) -> list[Path]:
    """Draw one panel for each model, batch size and setting: two bars for each method and rate.

    Above the bars stands the speed-up: the median over the repeats, and its range.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs(records, presets):
        groups.setdefault(canonical(pair.setting), []).append(pair)
    if not groups:
        return []
    settings = [group[0].setting for group in groups.values()]
    methods = list(dict.fromkeys(p.method for group in groups.values() for p in group))
    most = max(len(group) for group in groups.values())
    width = max(3.4, 0.8 + 1.15 * most)
    figure, panels = panel_grid(
        len(groups), ACROSS, lambda across, down: (max(4.6, width * across), 3.3 * down + 0.5)
    )
    for axes, group in zip(panels, groups.values(), strict=True):
        _panel(axes, group, methods, most)
        axes.set_title(_differing(group[0].setting, settings), fontsize=9)
    legend(figure, panels, 3)
    return save(figure, path)


def _panel(axes: Axes, group: Sequence[Pair], methods: list[str], most: int) -> None:
    for place, pair in enumerate(group):
        fill = colour(methods.index(pair.method))
        axes.bar(place - 0.2, pair.dense, 0.4, color="0.6", label="dense")
        axes.bar(place + 0.2, pair.compressed, 0.4, color=fill, label=pair.method)
        low, median, high = pair.speedup
        text = f"{median:.2f}x\n{low:.2f} to {high:.2f}"
        top = max(pair.dense, pair.compressed)
        axes.text(place, top, text, ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(group)), [f"{pair.rate:g}" for pair in group])
    spare = (most - len(group)) / 2  # bars are equally wide in all panels
    axes.set_xlim(-0.7 - spare, len(group) - 0.3 + spare)
    axes.margins(y=0.3)
    axes.set_xlabel("rate", fontsize=9)
    axes.set_ylabel("tokens/s", fontsize=9)
    finish(axes, "y")


def _differing(setting: dict[str, Any], settings: Sequence[dict[str, Any]]) -> str:
    """The settings in which this panel differs from the others."""
    keys = [k for k in setting if len({canonical(s.get(k)) for s in settings}) > 1]
    return ", ".join(f"{key.replace('_', ' ')} {setting[key]}" for key in keys)
