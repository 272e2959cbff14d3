"""Where parameters are kept: block by projection, one heat map for each run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.results.plots.axes import even_ticks
from flrc.results.plots.names import Names, percent
from flrc.results.plots.stability import keep_shares
from flrc.results.plots.style import GREY, SMALL, finished
from flrc.results.records.record import Record
from flrc.results.records.store import requested_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 12
"""Panels that are drawn at most; a line below them says how many runs are left out."""
ACROSS = 2
TITLE_WIDTH = 46
"""Characters in a line above a panel."""
WIDTH, HEIGHT, LINE = 3.2, 0.95, 0.15
"""Inches of a panel, and of a line of its title."""
BAR = 0.6
"""Inches of the colour bar and its labels."""


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


Run = list[Panel]
"""The panels of one run."""


def ranked(records: Sequence[Record]) -> list[Record]:
    """The runs whose records have ranks, the form of their factors and the projections."""
    return [
        record
        for record in finished(records)
        if record.results.get("layers")
        and record.run.get("components", {}).get("form")
        and all("projection" in layer for layer in record.results["layers"])
    ]


def panels(records: Sequence[Record], names: Names | None = None) -> list[tuple[float, Run]]:
    """Requested rate and panels of each run: its ranks, or those of its first and last phase.

    Sorted by the rate; runs that differ only in the seed count once.
    """
    runs = ranked(records)
    labels = (names or Names()).run_names(runs, rate=False)
    by_name: dict[str, tuple[float, Run]] = {}
    for record, label in sorted(
        zip(runs, labels, strict=True), key=lambda pair: requested_rate(pair[0])
    ):
        rate = requested_rate(record)
        name = f"{label}, {percent(rate)}"
        if name not in by_name:
            by_name[name] = (rate, panels_of_run(record, name))
    return list(by_name.values())


def chosen(runs: Sequence[tuple[float, Run]]) -> list[Run]:
    """The runs that are drawn: all, as far as there is room for them.

    If there is not, those at the middle rate, provided that several methods can be compared there.
    """
    if sum(len(run) for _, run in runs) > PANELS:
        rates = sorted({rate for rate, _ in runs})
        middle = [pair for pair in runs if pair[0] == rates[(len(rates) - 1) // 2]]
        runs = middle if len(middle) > 1 else runs
    drawn: list[Run] = []
    for _, run in runs:
        if sum(map(len, drawn)) + len(run) <= PANELS:
            drawn.append(run)
    return drawn


def draw(records: Sequence[Record], names: Names | None = None) -> list[Figure]:
    """Draw up to 12 heat maps that share one scale; the two phases of a run stand side by side.

    See :func:`chosen`; a line below them says how many runs are left out.
    """
    from matplotlib.figure import Figure

    runs = panels(records, names)
    if not runs:
        return []
    drawn = chosen(runs)
    places, left_out = _places(drawn), len(runs) - len(drawn)
    down = 1 + max(row for row, _, _ in places)
    across = 1 + max(column for _, column, _ in places)
    lines = sum(
        max(len(textwrap.wrap(panel.title, TITLE_WIDTH)) for at, _, panel in places if at == row)
        for row in range(down)
    )
    size = (WIDTH * across + BAR, HEIGHT * down + LINE * lines + 0.3 + 0.2 * bool(left_out))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    for axes in grid.flatten():
        axes.set_axis_off()
    for row, column, panel in places:
        image = _heat_map(grid[row, column], panel)
    for column in range(across):
        last = grid[max(row for row, place, _ in places if place == column), column]
        last.set_xlabel("block", fontsize=SMALL)
        last.tick_params(labelbottom=True)
    bar = figure.colorbar(image, ax=grid, shrink=min(1.0, 2.2 / down), aspect=12, pad=0.01)
    bar.set_label("parameters kept (%)", fontsize=SMALL)
    bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100"])
    bar.ax.tick_params(labelsize=SMALL, length=2)
    if left_out:
        figure.supxlabel(f"not drawn: {left_out} more runs", fontsize=SMALL, color=GREY)
    return [figure]


def panels_of_run(record: Record, name: str) -> Run:
    """The ranks of a run, or those of its first and its last phase."""
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


def _places(runs: Sequence[Run]) -> list[tuple[int, int, Panel]]:
    """Row and column of each panel; two phases share a row."""
    pairs = [run for run in runs if len(run) == ACROSS]
    single = [panel for run in runs if len(run) == 1 for panel in run]
    places = [(row, column, p) for row, run in enumerate(pairs) for column, p in enumerate(run)]
    for k, panel in enumerate(single):
        places.append((len(pairs) + k // ACROSS, k % ACROSS, panel))
    return places


def _heat_map(axes: Axes, panel: Panel) -> Any:
    axes.set_axis_on()
    image = axes.imshow(
        panel.shares, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="none"
    )
    axes.set_facecolor("0.85")
    title = textwrap.fill(panel.title, TITLE_WIDTH)
    axes.set_title(title, fontsize=SMALL, loc="left", pad=3)
    rows = [name.replace("_proj", "") for name in panel.projections]
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(labelsize=SMALL, length=2, labelbottom=False)
    axes.tick_params(axis="y", labelsize=7)
    even_ticks(axes, "x")
    return image
