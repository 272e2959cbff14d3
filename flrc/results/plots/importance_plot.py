"""FLRC's Figure 2 from records: the score of every projection over the blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from flrc.core.jsonfile import canonical
from flrc.results.plots.style import (
    colour,
    finish,
    finished,
    legend,
    marker,
    names,
    panel_grid,
    save,
)
from flrc.results.records.record import Record
from flrc.results.tables.labels import Presets

Curves = dict[str, tuple[list[int], list[float]]]
"""Projection -> blocks and scores, in the order of the blocks."""

ACROSS = 3


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
    records: Sequence[Record], presets: Presets | None = None
) -> list[tuple[str, str, Curves]]:
    """Name, sensitivity and curves of every set of scores; runs that share them count once."""
    scored = [record for record in finished(records) if curves(record)]
    sets: dict[str, tuple[str, str, Curves]] = {}
    for record, name in zip(scored, names(scored, presets), strict=True):
        sensitivity = str(record.run.get("components", {}).get("sensitivity", "?"))
        key = canonical([sensitivity, record.results["layers"][0]["target"], curves(record)])
        sets.setdefault(key, (name, sensitivity, curves(record)))
    return list(sets.values())


def draw(records: Sequence[Record], path: Path, presets: Presets | None = None) -> list[Path]:
    """Draw one panel for each set of scores, one line for each kind of projection."""
    shown = distinct(records, presets)
    if not shown:
        return []
    figure, panels = panel_grid(
        len(shown),
        ACROSS,
        lambda across, down: (6.4 if across == 1 else 4.4 * across, 3.4 * down + 0.6),
    )
    places = {kind: k for k, kind in enumerate(dict.fromkeys(p for s in shown for p in s[2]))}
    for axes, (name, sensitivity, lines) in zip(panels, shown, strict=True):
        lost = 0
        for kind, (blocks, scores) in lines.items():
            drawn = [(b, s) for b, s in zip(blocks, scores, strict=True) if 0 < s < math.inf]
            lost += len(scores) - len(drawn)
            axes.plot(
                [block for block, _ in drawn],
                [score for _, score in drawn],
                label=kind.replace("_proj", ""),
                color=colour(places[kind]),
                marker=marker(places[kind]),
                markersize=4,
                linewidth=1.3,
            )
        axes.set_yscale("log")
        axes.set_xlabel("block", fontsize=9)
        axes.set_ylabel(f"score ({sensitivity})", fontsize=9)
        if len(shown) > 1:
            axes.set_title(name, fontsize=9)
        finish(axes)
        if lost:
            axes.text(0.02, 0.98, f"not drawn: {lost} that are not positive and finite",
                      transform=axes.transAxes, fontsize=8, va="top", color="#AA3333")  # fmt: skip
    legend(figure, panels, 8)
    return save(figure, path)
