"""FLRC's Figure 2 from records: the score of every projection over the blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flrc.core.jsonfile import canonical
from flrc.results.plots.axes import log_scale
from flrc.results.plots.methods import COLOURS, MARKERS
from flrc.results.plots.names import Names
from flrc.results.plots.style import (
    ACROSS,
    SMALL,
    TEXT,
    finish,
    finished,
    legend,
    panel_grid,
)
from flrc.results.records.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Curves = dict[str, tuple[list[int], list[float]]]
"""Projection -> blocks and scores, in the order of the blocks."""

HEIGHT, WIDE = 2.3, 4.9
"""Inches of a panel; the width of a single one, which has a point for every block."""


def curves(record: Record) -> Curves:
    """The scores of a run by projection; empty if its allocator reads none.

    If all projections of a block share their score, there is one curve, ``all``.
    """
    by_projection: Curves = {}
    for layer in record.results.get("layers", []):
        if layer.get("score") is not None and "projection" in layer:
            blocks, scores = by_projection.setdefault(str(layer["projection"]), ([], []))
            blocks.append(int(layer["block"]))
            scores.append(float(layer["score"]))
    different = {canonical(curve) for curve in by_projection.values()}
    if len(by_projection) > 1 and len(different) == 1:
        return {"all": next(iter(by_projection.values()))}
    return by_projection


def distinct(
    records: Sequence[Record], names: Names | None = None
) -> list[tuple[str, str, Curves]]:
    """Name, sensitivity and curves of every set of scores; runs that share them count once."""
    scored = [record for record in finished(records) if curves(record)]
    sets: dict[str, tuple[str, str, Curves]] = {}
    for record, name in zip(scored, (names or Names()).run_names(scored), strict=True):
        sensitivity = str(record.run.get("components", {}).get("sensitivity", "?"))
        key = canonical([sensitivity, record.results["layers"][0]["target"], curves(record)])
        sets.setdefault(key, (name, sensitivity, curves(record)))
    return list(sets.values())


def draw(records: Sequence[Record], names: Names | None = None) -> list[Figure]:
    """Draw one panel for each set of scores, one line for each kind of projection."""
    shown = distinct(records, names)
    if not shown:
        return []
    figure, panels = panel_grid(len(shown), HEIGHT, min(len(shown), ACROSS))
    if len(shown) == 1:
        figure.set_figwidth(WIDE)
    places = {kind: k for k, kind in enumerate(dict.fromkeys(p for s in shown for p in s[2]))}
    entries: dict[str, Line2D] = {}
    for axes, (name, sensitivity, lines) in zip(panels, shown, strict=True):
        lost = 0
        limits: list[float] = []
        for kind, (blocks, scores) in lines.items():
            drawn = [(b, s) for b, s in zip(blocks, scores, strict=True) if 0 < s < math.inf]
            lost += len(scores) - len(drawn)
            limits += [score for _, score in drawn]
            (line,) = axes.plot(
                [block for block, _ in drawn],
                [score for _, score in drawn],
                label=kind.replace("_proj", ""),
                color=COLOURS[places[kind] % len(COLOURS)],
                marker=MARKERS[places[kind] % len(MARKERS)],
                markersize=3.5,
                linewidth=1.1,
            )
            entries.setdefault(str(line.get_label()), line)
        if limits:
            log_scale(axes, "y", min(limits) / 1.3, max(limits) * 1.3)
        axes.set_xlabel("block", fontsize=SMALL)
        axes.set_ylabel(f"{sensitivity} score", fontsize=SMALL)
        if len(shown) > 1:
            axes.set_title(name, fontsize=TEXT)
        finish(axes)
        if lost:
            text = f"not drawn: {lost} that are not positive and finite"
            axes.text(0.02, 0.98, text, transform=axes.transAxes, fontsize=SMALL, va="top",
                      color="#AA3333")  # fmt: skip
    legend(figure, entries)
    return [figure]
