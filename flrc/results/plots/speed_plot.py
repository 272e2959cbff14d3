"""Decoding speed, dense beside compressed, timed in turns in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.core.jsonfile import canonical
from flrc.results.plots.axes import even_ticks
from flrc.results.plots.methods import DENSE, Look
from flrc.results.plots.names import Names
from flrc.results.plots.style import (
    ACROSS,
    COLUMN,
    PANEL,
    SMALL,
    TEXT,
    finish,
    finished,
    legend,
    panel_grid,
)
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPEED = "tokens_per_second"
SPEEDUPS = ("speedup_lowest", "speedup", "speedup_highest")
HEIGHT = 2.5
LABEL = 0.85
"""Inches of a pair of bars, as wide as its speed-ups."""
DENSE_BAR = "0.65"


@dataclass(frozen=True)
class Pair:
    """One compressed run and the dense model beside it, in tokens per second.

    Attributes:
        look: Name and colour of the compressed run.
        rate: Requested.
        speedup: Lowest, median and highest ratio of two timings, one taken right after the other.
        setting: Model, part and settings, which are equal within a panel.
    """

    look: Look
    rate: float
    compressed: float
    dense: float
    speedup: tuple[float, float, float]
    setting: dict[str, Any]


def pairs(records: Sequence[Record], names: Names | None = None) -> list[Pair]:
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
        looks = (names or Names()).looks_of([record for record, _ in group])
        for (record, setting), look in zip(group, looks, strict=True):
            part = f"{setting['part']}/"
            value = {m.name.removeprefix(part): m.value for m in record.measurements}
            if not {f"dense_{SPEED}", *SPEEDUPS} <= value.keys():
                continue  # the dense run itself, or a run without a dense one beside it
            low, median, high = (value[key] for key in SPEEDUPS)
            timed_pairs.append(
                Pair(
                    look,
                    requested_rate(record),
                    value[SPEED],
                    value[f"dense_{SPEED}"],
                    (low, median, high),
                    setting,
                )
            )
    return sorted(timed_pairs, key=lambda pair: pair.rate)


def draw(records: Sequence[Record], names: Names | None = None) -> list[Figure]:
    """Draw one panel for each model, batch size and setting: two bars for each method and rate.

    Above the bars stands the speed-up: the median over the repeats, and its range.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs(records, names):
        groups.setdefault(canonical(pair.setting), []).append(pair)
    if not groups:
        return []
    settings = [group[0].setting for group in groups.values()]
    most = max(len(group) for group in groups.values())
    wide = 0.6 + LABEL * most
    across = min(len(groups), ACROSS, max(1, int(ACROSS * PANEL / wide)))
    figure, panels = panel_grid(len(groups), HEIGHT, across)
    figure.set_figwidth(max(COLUMN, wide * across))
    entries: dict[str, Any] = {}
    for axes, group in zip(panels, groups.values(), strict=True):
        entries |= _panel(axes, group, most)
        axes.set_title(_differing(group[0].setting, settings), fontsize=TEXT)
    legend(figure, entries)
    return [figure]


def _panel(axes: Axes, group: Sequence[Pair], most: int) -> dict[str, Any]:
    """Draw the pairs; returns what the legend shows, by label."""
    entries: dict[str, Any] = {}
    for place, pair in enumerate(group):
        look = pair.look
        entries[DENSE] = axes.bar(place - 0.2, pair.dense, 0.4, color=DENSE_BAR, label=DENSE)
        entries[look.name] = axes.bar(
            place + 0.2,
            pair.compressed,
            0.4,
            color="white" if look.variant else look.colour,
            edgecolor=look.colour,
            hatch=look.hatch,
            label=look.name,
        )
        low, median, high = pair.speedup
        text = f"{median:.2f}x\n{low:.2f} to {high:.2f}"
        top = max(pair.dense, pair.compressed)
        axes.text(place, top, text, ha="center", va="bottom", fontsize=SMALL, linespacing=1.1)
    axes.set_xticks(range(len(group)), [f"{100 * pair.rate:g}" for pair in group])
    spare = (most - len(group)) / 2  # bars are equally wide in all panels
    axes.set_xlim(-0.7 - spare, len(group) - 0.3 + spare)
    axes.set_ylim(0, 1.3 * max(max(pair.dense, pair.compressed) for pair in group))
    axes.set_xlabel("rate (%)", fontsize=SMALL)
    axes.set_ylabel("tokens per second", fontsize=SMALL)
    even_ticks(axes, "y")
    finish(axes, "y")
    return entries


def _differing(setting: dict[str, Any], settings: Sequence[dict[str, Any]]) -> str:
    """The settings in which this panel differs from the others."""
    keys = [k for k in setting if len({canonical(s.get(k)) for s in settings}) > 1]
    return ", ".join(f"{key.replace('_', ' ')} {setting[key]}" for key in keys)
