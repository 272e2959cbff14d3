"""Where parameters are kept: block by projection, one heat map for each run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.results.plots.stability import keep_shares
from flrc.results.plots.style import finished, names, save
from flrc.results.records.record import Record
from flrc.results.records.store import requested_rate
from flrc.results.tables.labels import Presets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 12
"""Panels that are drawn at most; a line below them says how many runs are left out."""
ACROSS = 2
TITLE_WIDTH = 56
"""Characters in a line above a panel."""


@dataclass(frozen=True)
class Panel:
    """One heat map.

    Attributes:
        title: The run, and for a schedule the steps that use these ranks.
        projections: Rows, as the layers name them.
        shares: ``[projection][block]``, parameters kept over dense ones in [0, 1]; NaN if missing.
    """

    title: str
    projections: list[str]
    shares: list[list[float]]


def ranked(records: Sequence[Record]) -> list[Record]:
    """The runs whose records have ranks, the form of their factors and the projections."""
    return [
        record
        for record in finished(records)
        if record.results.get("layers")
        and record.run.get("components", {}).get("form")
        and all("projection" in layer for layer in record.results["layers"])
    ]


def panels(records: Sequence[Record], presets: Presets | None = None) -> list[list[Panel]]:
    """One or two panels for each run: its ranks, or those of its first and its last phase.

    Runs that differ only in the seed count once. If there are more than can be drawn, those at the
    middle rate come first, provided that several methods can be compared there.
    """
    runs = ranked(records)
    by_rate = sorted(
        zip(runs, names(runs, presets, rate=False), strict=True),
        key=lambda pair: requested_rate(pair[0]),
    )
    by_name: dict[str, tuple[float, list[Panel]]] = {}
    for record, label in by_rate:
        rate = requested_rate(record)
        name = f"{label} at {rate:g}"
        if name not in by_name:
            by_name[name] = (rate, _of_run(record, name))
    runs_at = list(by_name.values())
    rates = sorted({rate for rate, _ in runs_at})
    if sum(len(run) for _, run in runs_at) > PANELS:
        middle = rates[(len(rates) - 1) // 2]
        if sum(rate == middle for rate, _ in runs_at) > 1:
            runs_at.sort(key=lambda pair: pair[0] != middle)
    return [run for _, run in runs_at]


def draw(records: Sequence[Record], path: Path, presets: Presets | None = None) -> list[Path]:
    """Draw up to 12 heat maps that share one scale; the two phases of a run stand side by side."""
    from matplotlib.figure import Figure

    runs = panels(records, presets)
    if not runs:
        return []
    places, left_out = _places(runs)
    down = 1 + max(row for row, _, _ in places)
    across = 1 + max(column for _, column, _ in places)
    figure = Figure(figsize=(5.6 * across + 0.9, 1.95 * down + 0.5), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flatten():
        axes.set_axis_off()
    for row, column, panel in places:
        image = _heat_map(grid[row, column], panel)
    bar = figure.colorbar(image, ax=grid, shrink=min(1.0, 3.0 / down), pad=0.01)
    bar.set_label("share of parameters kept (1: dense)", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    if left_out:
        figure.supxlabel(f"not drawn, for want of room: {left_out} more runs", fontsize=9)
    return save(figure, path)


def _of_run(record: Record, name: str) -> list[Panel]:
    phases = record.results.get("phases", [])
    layers = record.results["layers"]
    if len(phases) < 2 or any(not layer.get("phase_ranks") for layer in layers):
        return [_panel(record, name, None)]
    last = len(phases) - 1
    return [
        _panel(record, f"{name}, {when}", phase)
        for phase, when in ((0, "first steps"), (last, f"from {_begin(phases[last])}"))
    ]


def _begin(phase: dict[str, Any]) -> str:
    if phase.get("step") is not None:
        return f"step {phase['step']} on"
    return f"{phase['begin']:.0%} of the reply on"


def _panel(record: Record, title: str, phase: int | None) -> Panel:
    layers = record.results["layers"]
    projections = list(dict.fromkeys(str(layer["projection"]) for layer in layers))
    blocks = 1 + max(int(layer["block"]) for layer in layers)
    shares = [[math.nan] * blocks for _ in projections]
    for layer, share in zip(layers, keep_shares(record, phase), strict=True):
        shares[projections.index(layer["projection"])][int(layer["block"])] = share
    return Panel(title, projections, shares)


def _places(runs: Sequence[list[Panel]]) -> tuple[list[tuple[int, int, Panel]], int]:
    """Row and column of each panel, and how many runs are left out; two phases share a row."""
    room = 0
    chosen: list[list[Panel]] = []
    for run in runs:
        if room + len(run) <= PANELS:
            chosen.append(run)
            room += len(run)
    pairs = [run for run in chosen if len(run) == ACROSS]
    single = [panel for run in chosen if len(run) == 1 for panel in run]
    places = [(row, column, p) for row, run in enumerate(pairs) for column, p in enumerate(run)]
    for k, panel in enumerate(single):
        places.append((len(pairs) + k // ACROSS, k % ACROSS, panel))
    return places, len(runs) - len(chosen)


def _heat_map(axes: Axes, panel: Panel) -> Any:
    axes.set_axis_on()
    image = axes.imshow(
        panel.shares, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="none"
    )
    axes.set_facecolor("0.85")
    axes.set_title(textwrap.fill(panel.title, TITLE_WIDTH), fontsize=9, loc="left")
    rows = [name.replace("_proj", "") for name in panel.projections]
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("block", fontsize=9)
    axes.tick_params(labelsize=9, length=2)
    return image
