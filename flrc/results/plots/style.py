"""The style that all plots share, and how they are saved.

Sizes are those of print: text of 8 and 9 points, one panel as wide as a column of a paper with two,
three panels as wide as both. A plot of two panels at the width of a column has 6 points left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flrc.results.plots.formats import PICTURES
from flrc.results.plots.methods import DENSE, DENSE_COLOUR, Look
from flrc.results.plots.names import with_seeds
from flrc.results.records.distinct import distinct
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.labels import Presets, label_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.4
"""Width in inches of a plot with one panel."""
PANEL = 2.45
"""Width in inches of each of several panels."""
ACROSS = 3
"""Panels side by side at most."""
TEXT, SMALL = 9.0, 8.0
"""Points: titles and labels; ticks, legends and numbers."""
GREY = "0.35"
BACKGROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
"""Of text that may stand on lines."""
DPI = 200
CHARACTER = 0.067
"""Inches that a character of a legend takes."""
SALT = "flrc"
"""Ids in SVG files are made from this, not from the time."""
UNDATED: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
"""Metadata that are left out, so that equal plots are equal files."""


def across(columns: int) -> int:
    """Panels side by side, for a plot with this many metrics: at most three, two of four."""
    return 2 if columns == 4 else min(columns, ACROSS)


def panel_grid(count: int, height: float, across: int, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows of at most ``across``.

    ``height`` is that of a panel in inches; ``options`` are those of ``Figure.subplots``.
    """
    from matplotlib.figure import Figure

    across = min(count, across)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width(across), height * down), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False, **options).flatten())
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def width(across: int) -> float:
    """Inches of a plot with this many panels side by side."""
    return COLUMN if across == 1 else PANEL * across


def save(figures: Sequence[Figure], path: Path, formats: Sequence[str] = PICTURES) -> list[Path]:
    """Write each figure in each format: ``plot.png``, ``plot.pdf``; the second as ``plot-2.png``.

    Equal figures are equal files: they hold no date and no random id.

    Args:
        figures: What a plot has drawn.
        path: Folder and name; an ending is replaced.
        formats: Endings, of :data:`~flrc.results.plots.formats.PICTURES`.
    """
    import matplotlib

    written = []
    # Text in PDF files stays text, in fonts that conferences accept; in SVG files it is drawn.
    with matplotlib.rc_context({"svg.hashsalt": SALT, "pdf.fonttype": 42}):
        for place, figure in enumerate(figures, start=1):
            name = path if place == 1 else path.with_stem(f"{path.stem}-{place}")
            for ending in formats:
                file = name.with_suffix(f".{ending}")
                figure.savefig(file, dpi=DPI, metadata=UNDATED[ending])
                written.append(file)
    return written


def finish(axes: Axes, grid: Literal["both", "x", "y"] = "both", labels: float = SMALL) -> None:
    """Finish a panel that holds its data: two spines, a light grid behind, readable ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=labels, length=2.5)
    axes.tick_params(which="minor", length=1.5)


def method_legend(figure: Figure, looks: Iterable[Look], note: str = "") -> None:
    """One legend for all panels, below them; ``note`` is a line above it."""
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], label=k.name, linewidth=1.4, markersize=5, **k.options) for k in looks
    ]
    legend(figure, {str(entry.get_label()): entry for entry in entries}, note)


def legend(figure: Figure, entries: Mapping[str, Any], note: str = "") -> None:
    """A legend below all panels, with as many columns as fit; label -> what is shown before it."""
    if not entries:
        return
    wide = 0.43 + CHARACTER * max(len(label) for label in entries)
    columns = min(len(entries), max(1, int(figure.get_figwidth() / wide)))
    rows = math.ceil(len(entries) / columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * (rows + bool(note)) + 0.05)
    made = figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=math.ceil(len(entries) / rows),
        frameon=False,
        fontsize=SMALL,
        columnspacing=1.2,
        handlelength=2.2,
        handletextpad=0.5,
        labelspacing=0.3,
        borderaxespad=0.2,
        title=note or None,
        title_fontsize=SMALL,
    )
    made.get_title().set_color(GREY)


def dense_line(
    axes: Axes, value: float, error: float, text: str, *, above: bool, left: bool
) -> None:
    """The dense model as a dashed line across, its error as a band, its name at one end."""
    axes.axhline(value, color=DENSE_COLOUR, linestyle="--", linewidth=1, label=DENSE)
    if error:
        axes.axhspan(value - error, value + error, color="0.5", alpha=0.15, linewidth=0, zorder=0)
    axes.annotate(
        text,
        (0 if left else 1, value),
        xycoords=("axes fraction", "data"),
        xytext=(3 if left else -1, 2 if above else -2),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom" if above else "top",
        fontsize=SMALL,
        color=GREY,
        bbox=BACKGROUND,
        zorder=2.2,  # above lines, below the axes
    )


def copy_line(axes: Axes, value: float, text: str, *, left: bool) -> None:
    """The score of a copy of the source as a dotted line across, its name at one end."""
    axes.axhline(value, color=DENSE_COLOUR, linestyle=":", linewidth=1.2)
    axes.annotate(
        text,
        (0 if left else 1, value),
        xycoords=("axes fraction", "data"),
        xytext=(3 if left else -1, 2),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom",
        fontsize=SMALL,
        color=GREY,
        bbox=BACKGROUND,
        zorder=2.2,
    )


def finished(records: Iterable[Record]) -> list[Record]:
    """The compressed runs that finished; a record that is given twice counts once."""
    given = distinct(record for record in records if record.run["status"] == "ok")
    return [record for record in given if record.run["method"] != DENSE]


def names(records: Sequence[Record], presets: Presets | None = None) -> list[str]:
    """A name for each run of a list: row label, rate, and model and seed if they differ."""
    labels = [
        f"{label} at {requested_rate(record):g}"
        for label, record in zip(label_rows(records, presets or {}), records, strict=True)
    ]
    models = [model_name(record) for record in records]
    if len(set(models)) > 1:
        labels = [f"{label}, {model}" for label, model in zip(labels, models, strict=True)]
    return with_seeds(labels, records)
