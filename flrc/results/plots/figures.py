"""All plots that a set of records has data for, as images inside a page."""

from __future__ import annotations

import base64
import logging
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flrc.errors import UserError
from flrc.results.plots import (
    importance_plot,
    pareto_plot,
    plot,
    ranks_plot,
    schedule_plot,
    search_plot,
    speed_plot,
    stability,
    stability_plot,
)
from flrc.results.plots.style import DPI
from flrc.results.records.record import Record
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.labels import Presets
from flrc.results.tables.runs_table import RunsTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figure:
    """One image, its PNG file as a ``data:`` address.

    Width and height are in CSS pixels (1/96 inch), at the size at which its text is 9 points high.
    """

    caption: str
    alt: str
    uri: str
    width: int
    height: int


def figures(groups: Sequence[Sequence[Record]], presets: Presets) -> list[Figure]:
    """Draw all plots that the records have data for; a warning names those that fail.

    ``groups`` are records of one study, by table: metrics are compared within a table only.
    """
    everything = [[record for group in groups for record in group]]
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in PLOTS.items():
            for records in groups if name in OF_METRICS else everything:
                try:
                    files = kind.draw(records, Path(folder) / "plot.png", presets)
                except UserError as error:
                    log.warning("not drawn: %s: %s", kind.caption, error)
                    continue
                drawn += [_image(file, kind.caption, kind.alt) for file in files]
    return drawn


def _image(file: Path, caption: str, alt: str) -> Figure:
    content = file.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of the IHDR chunk, which is the first
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Figure(caption, alt, uri, round(width * 96 / DPI), round(height * 96 / DPI))


def _bars(records: Sequence[Record], path: Path, presets: Presets) -> list[Path]:
    """The headline metrics of the groups without a Pareto plot: all have one cost."""
    written: list[Path] = []
    for group in settings_groups(records):
        table = RunsTable(group, presets)
        if pareto_plot.quality(table) and not pareto_plot.axes_of(table):
            written += plot.draw(table, path.with_stem(f"{path.stem}-{len(written)}"))
    return written


def _stability(records: Sequence[Record], path: Path, presets: Presets) -> list[Path]:
    """Agreement of runs that differ in seed or calibration tokens, if there are such runs."""
    frame = stability.layers(ranks_plot.ranked(records), presets)
    runs = frame.groupby(stability.CELL)[["seed", "tokens"]].nunique().max(axis=1)
    several = set(runs.index[runs > 1])
    frame = frame[[key in several for key in zip(*(frame[k] for k in stability.CELL), strict=True)]]
    if frame.empty:
        return []
    stability_plot.draw(frame, stability.pairs(frame), path)
    return [path]


Draw = Callable[[Sequence[Record], Path, Presets], list[Path]]
"""Any records, the PNG file and the components of each method's preset -> the files written, none
if the records have nothing to draw."""


@dataclass(frozen=True)
class Plot:
    """A kind of plot: what it shows, and its alternative text (kind of plot, axes, lines)."""

    draw: Draw
    caption: str
    alt: str


PLOTS: dict[str, Plot] = {
    "pareto": Plot(
        pareto_plot.draw,
        "Quality against parameters stored, and against the rate (dense: dashed)",
        "Line charts: each headline metric against the share of parameters stored and against the "
        "realised rate, one line for each method, the dense model as a dashed line.",
    ),
    "bars": Plot(
        _bars,
        "Headline metrics",
        "Bar charts: each headline metric, one bar for each method and one for the dense model.",
    ),
    "speed": Plot(
        speed_plot.draw,
        "Decoding speed, dense beside compressed; speed-up as median and range of the repeats",
        "Bar charts: tokens per second of the dense and the compressed model against the rate, "
        "the speed-up above each pair.",
    ),
    "schedule": Plot(
        schedule_plot.draw,
        "Rate at each forward step of a reply (constant: dashed)",
        "Step lines: the rate used at each forward step of a reply, one line for each run.",
    ),
    "ranks": Plot(
        ranks_plot.draw,
        "Parameters kept of every layer",
        "Heat maps: share of parameters kept, block by projection, one map for each run and two "
        "for a run whose ranks change.",
    ),
    "importance": Plot(
        importance_plot.draw,
        "Importance score of every layer",
        "Line charts, logarithmic: the score over the blocks, one line for each projection.",
    ),
    "search": Plot(
        search_plot.draw,
        "Time of the search for ranks and schedules",
        "Horizontal bars, logarithmic: seconds of the search, one bar for each method and rate.",
    ),
    "stability": Plot(
        _stability,
        "Agreement of runs that differ in seed or calibration tokens, and range of their ranks",
        "Line charts: rank correlation and mean difference of runs against calibration tokens, and "
        "the range of each layer's share of parameters kept.",
    ),
}
"""In the order in which a page shows them."""
OF_METRICS = ("pareto", "bars")
"""Plots that compare metrics: drawn table by table."""


def _quality(records: Sequence[Record], path: Path, presets: Presets) -> list[Path]:
    """Headline metrics against the rate; bars at a single one."""
    return plot.draw(RunsTable(records, presets), path)


PLOTS_BY_NAME: dict[str, Draw] = {
    "quality": _quality,
    **{name: kind.draw for name, kind in PLOTS.items()},
}
"""What ``plots`` of a ``table.yaml`` may name."""
