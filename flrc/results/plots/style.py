"""The style that all plots share, and the names by which they call runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flrc.core.jsonfile import canonical
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.labels import Presets, label_rows

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#44AA99")
"""Distinguishable with a colour vision deficiency too. Source: Okabe and Ito; Tol."""
MARKERS = "osD^vPX*<>"
DPI = 160
CHARACTER = 0.072
"""Inches that a character of a legend takes."""


def panel_grid(
    count: int, across: int, size: Callable[[int, int], tuple[float, float]], **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows of at most ``across``.

    ``size`` maps panels in a row and number of rows to width and height in inches; ``options`` are
    those of ``Figure.subplots``.
    """
    from matplotlib.figure import Figure

    across = min(count, across)
    down = math.ceil(count / across)
    figure = Figure(figsize=size(across, down), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False, **options).flatten())
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def save(figure: Figure, path: Path) -> list[Path]:
    """Write the PNG file; returns it as the list that ``draw`` returns."""
    figure.savefig(path, dpi=DPI)
    return [path]


def colour(place: int) -> str:
    """The colour of a plot's line or bar by its place in the legend."""
    return COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    """The marker of a plot's line by its place in the legend."""
    return MARKERS[place % len(MARKERS)]


def finish(axes: Axes, grid: Literal["both", "x", "y"] = "both", labels: float = 9) -> None:
    """Finish a panel that holds its data: two spines, a light grid behind, readable ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=labels)


def legend(figure: Figure, panels: Iterable[Axes], across: int) -> None:
    """One legend for all panels, below them, with as many columns as fit, at most ``across``."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        wide = 0.5 + CHARACTER * max(len(label) for label in entries)
        across = min(len(entries), across, max(1, int(figure.get_figwidth() / wide)))
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=across,
            frameon=False,
            fontsize=9,
            columnspacing=1.4,
        )


def finished(records: Iterable[Record]) -> list[Record]:
    """The compressed runs that finished; a record that is given twice counts once."""
    given = {canonical(r.to_json()): r for r in records if r.run["status"] == "ok"}
    return [record for record in given.values() if record.run["method"] != "dense"]


def names(
    records: Sequence[Record], presets: Presets | None = None, *, rate: bool = True
) -> list[str]:
    """A name for each run: row label, and model and seed if they differ.

    With ``rate``, which the name then includes, no two runs share one.
    """
    labels = label_rows(records, presets or {})
    if rate:
        labels = [
            f"{label} at {requested_rate(record):g}"
            for label, record in zip(labels, records, strict=True)
        ]
    models = [model_name(record) for record in records]
    if len(set(models)) > 1:
        labels = [f"{label}, {model}" for label, model in zip(labels, models, strict=True)]
    if not rate:
        return labels
    seeded = [f"{n}, seed {r.run.get('seed')}" for n, r in zip(labels, records, strict=True)]
    runs_of = Counter(name for name, _ in dict.fromkeys(zip(labels, seeded, strict=True)))
    return [n if runs_of[n] == 1 else s for n, s in zip(labels, seeded, strict=True)]
