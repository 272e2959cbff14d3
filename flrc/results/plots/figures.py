"""All plots that a set of records has data for, as images inside a page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.core.jsonfile import canonical
from flrc.errors import UserError
from flrc.results.plots import (
    healing_plot,
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
from flrc.results.plots.names import Names
from flrc.results.plots.svg import STYLE, svg
from flrc.results.records.record import Record
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.labels import Presets
from flrc.results.tables.runs_table import RunsTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawn

log = logging.getLogger(__name__)


SCREEN = 1.2
"""How much larger than in print a plot is on a page: its text is then 10 to 11 points high."""


@dataclass(frozen=True)
class Figure:
    """One image, its SVG text as a ``data:`` address.

    Width and height are in CSS pixels (1/96 inch), at the size at which its text is well read.
    """

    caption: str
    alt: str
    uri: str
    width: int
    height: int


def figures(
    groups: Sequence[Sequence[Record]], presets: Presets, names: Names | None = None
) -> list[Figure]:
    """Draw all plots that the records have data for; a warning names those that fail.

    Args:
        groups: Records of one study, by table: metrics are compared within a table only.
        presets: The components of each preset.
        names: The names of the study's table, if it has one (:func:`~.studies.files.names_of`).
    """
    from matplotlib import rc_context

    everything = [[record for group in groups for record in group]]
    names = names or Names(presets)
    shown = []
    with rc_context(STYLE):
        for name, kind in PLOTS.items():
            if name in AS_MAPS:
                continue
            for records in groups if name in OF_METRICS else everything:
                try:
                    drawn = kind.draw(records, names)
                except UserError as error:
                    log.warning("not drawn: %s: %s", kind.caption, error)
                    continue
                shown += [_image(figure, kind.caption, kind.alt) for figure in drawn]
    return shown


def _image(drawn: Drawn, caption: str, alt: str) -> Figure:
    uri = "data:image/svg+xml," + svg(drawn).replace("%", "%25").replace("#", "%23")
    width, height = (round(inches * 96 * SCREEN) for inches in drawn.get_size_inches())
    return Figure(caption, alt, uri, width, height)


def _bars(records: Sequence[Record], names: Names) -> list[Drawn]:
    """The headline metrics of the groups without a Pareto plot: all have one cost."""
    drawn: list[Drawn] = []
    for group in settings_groups(records):
        table = RunsTable(group, names.presets)
        if pareto_plot.quality(table) and not pareto_plot.axes_of(table):
            drawn += plot.draw(table, names)
    return drawn


def _stability(records: Sequence[Record], names: Names) -> list[Drawn]:
    """Agreement of runs that differ in seed or calibration tokens, if there are such runs."""
    runs = ranks_plot.ranked(records)
    if len({canonical([r.run.get("seed"), r.run["config"].get("calibration")]) for r in runs}) < 2:
        return []
    frame = stability.layers(runs, names.presets)
    repeats = frame.groupby(stability.CELL)[["seed", "tokens"]].nunique().max(axis=1)
    several = set(repeats.index[repeats > 1])
    frame = frame[[key in several for key in zip(*(frame[k] for k in stability.CELL), strict=True)]]
    if frame.empty:
        return []
    return stability_plot.draw(frame, stability.pairs(frame), names)


Draw = Callable[[Sequence[Record], Names], "list[Drawn]"]
"""Any records, and how plots call them -> the figures, none if there is nothing to draw."""


@dataclass(frozen=True)
class Plot:
    """A kind of plot: what it shows, and its alternative text (kind of plot, axes, lines)."""

    draw: Draw
    caption: str
    alt: str


PLOTS: dict[str, Plot] = {
    "pareto": Plot(
        pareto_plot.draw,
        "Quality against parameters stored, and against the rate; error bars as in the table, "
        "arrows at collapsed models",
        "Line charts: each headline metric against the share of parameters stored and against the "
        "realised rate, one line for each method with error bars, the dense model dashed.",
    ),
    "bars": Plot(
        _bars,
        "Headline metrics; error bars as in the table, arrows at collapsed models",
        "Bar charts: each headline metric, one bar for each method, the dense model dashed.",
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
        "Dot plot, logarithmic: seconds of the search, one row for each method and rate.",
    ),
    "healing": Plot(
        healing_plot.draw,
        "Loss while the factors are tuned; thin: of each step's sequences, markers: on held-out "
        "sequences, ring: the state that is kept",
        "Line charts: the loss over the steps and over seconds, one line for each run; for runs "
        "that were tuned block by block, the error of each block before and after.",
    ),
    "stability": Plot(
        _stability,
        "Agreement of runs that differ in seed or calibration tokens, and range of their ranks",
        "Line charts: rank correlation and mean difference of runs against calibration tokens, and "
        "the range of each layer's share of parameters kept.",
    ),
}
"""In the order in which a page shows them."""
AS_MAPS = ("ranks",)
"""Plots in whose place a page has a map of each run, see :mod:`flrc.results.pages.maps`."""
OF_METRICS = ("pareto", "bars")
"""Plots that compare metrics: drawn table by table."""


def _quality(records: Sequence[Record], names: Names) -> list[Drawn]:
    """Headline metrics against the rate; bars at a single one."""
    return plot.draw(RunsTable(records, names.presets), names)


PLOTS_BY_NAME: dict[str, Draw] = {
    "quality": _quality,
    **{name: kind.draw for name, kind in PLOTS.items()},
}
"""What ``plots`` of a ``table.yaml`` may name."""
