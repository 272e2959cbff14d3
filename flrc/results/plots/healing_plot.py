"""How healing went: the loss over steps and seconds, and the error of every block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.results.plots.axes import LOG_SPAN, even_ticks, log_limit, log_scale, spans
from flrc.results.plots.methods import Look
from flrc.results.plots.names import Names, percent
from flrc.results.plots.style import (
    SMALL,
    TEXT,
    finish,
    finished,
    method_legend,
    panel_grid,
)
from flrc.results.records.healing import Healing, Tuning, healing_of
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.3
"""Inches of a panel."""
MARKER, RING, CROSS = 4.0, 9.0, 7.0
"""Sizes of the markers of a check, of the state that is kept, and of a tuning that diverged."""
THIN: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.45}
"""Of the losses on each step's sequences, which differ from sequence to sequence."""
ROOM = 0.06
"""Share of an axis that stays free above and below the values."""
KEPT, DIVERGED = "ring: the state that is kept", "cross: diverged"


@dataclass(frozen=True)
class Curve:
    """One run that was healed.

    Attributes:
        name: Method, with rate, model and seed as far as the runs differ in them.
        look: The method's colour; runs of one method differ in line and marker.
    """

    name: str
    look: Look
    healing: Healing


def curves(records: Sequence[Record], names: Names | None = None) -> list[Curve]:
    """The runs that were healed."""
    known = [(record, healing_of(record)) for record in finished(records)]
    healed = [(record, healing) for record, healing in known if healing is not None]
    if not healed:
        return []
    names = names or Names()
    runs = [record for record, _ in healed]
    one_rate = len({requested_rate(record) for record in runs}) == 1
    labels = names.run_names(runs)
    if one_rate:
        labels = [label.replace(f", {percent(requested_rate(runs[0]))}", "") for label in labels]
    seen: Counter[Look] = Counter()
    found = []
    for label, look, (_, healing) in zip(labels, names.looks_of(runs), healed, strict=True):
        own = look.variant_of(label, look.variant + seen[look])
        seen[look] += 1
        found.append(Curve(label, own, healing))
    return found


def draw(records: Sequence[Record], names: Names | None = None) -> list[Figure]:
    """Draw the tunings of whole models; then, if there are any, those of blocks."""
    names = names or Names()
    shown = curves(records, names)
    title = _title([record for record in finished(records) if healing_of(record)], names)
    figures = []
    if whole := [curve for curve in shown if _finite([curve.healing.whole])]:
        figures.append(_whole_models(whole, title))
    if blocks := [curve for curve in shown if _finite(curve.healing.blocks.values())]:
        figures.append(_blocks(blocks, title))
    return figures


def _finite(tunings: Iterable[Tuning | None]) -> bool:
    """Whether any began at a loss that can be drawn."""
    return any(tuning is not None and math.isfinite(tuning.before) for tuning in tunings)


def _title(runs: Sequence[Record], names: Names) -> str:
    models = {names.model(model_name(record)) for record in runs}
    rates = {requested_rate(record) for record in runs}
    parts = [*models] * (len(models) == 1)
    return ", ".join(parts + [f"rate {percent(rate)}" for rate in rates if len(rates) == 1])


def _whole_models(shown: Sequence[Curve], title: str) -> Figure:
    figure, (over_steps, over_time) = panel_grid(2, HEIGHT, 2, sharey=True)
    tunings = [curve.healing.whole for curve in shown if curve.healing.whole is not None]
    values = [loss for t in tunings for loss in (*t.losses, *(c.loss for c in t.checks))]
    top = _vertical(over_steps, values)
    for curve, tuning in zip(shown, tunings, strict=True):
        over_steps.plot(range(tuning.steps), tuning.losses, color=curve.look.colour, **THIN)
        known = [check for check in tuning.checks if math.isfinite(check.loss)]
        for axes, places in (
            (over_steps, [float(check.step) for check in known]),
            (over_time, [check.seconds for check in known]),
        ):
            _held_out(axes, [min(check.loss, top) for check in known], places, curve.look)
            kept = places[known.index(tuning.kept)]
            axes.plot([kept], [tuning.after], "o", markersize=RING, markerfacecolor="none",
                      color=curve.look.colour, markeredgewidth=1.2)  # fmt: skip
            if tuning.stopped:
                _cross(axes, places[-1], min(known[-1].loss, top), curve.look)
    over_steps.set_ylabel("KL to the dense model\n(nats per token)", fontsize=SMALL)
    for axes, text in ((over_steps, "step"), (over_time, "seconds")):
        axes.set_xlabel(text, fontsize=SMALL)
        axes.set_xlim(left=-ROOM / 2 * axes.get_xlim()[1])
        even_ticks(axes, "x", 5)
        finish(axes)
    return _labelled(figure, shown, title, ["thin: the tuned sequences", KEPT], tunings)


def _held_out(axes: Axes, losses: Sequence[float], places: Sequence[float], look: Look) -> None:
    options = {**look.options, "markersize": MARKER, "linewidth": 1.4}
    axes.plot(places, losses, label=look.name, **options)


def _cross(axes: Axes, place: float, loss: float, look: Look) -> None:
    axes.plot([place], [loss], "x", markersize=CROSS, color=look.colour, markeredgewidth=1.6)


def _blocks(shown: Sequence[Curve], title: str) -> Figure:
    figure, (axes,) = panel_grid(1, HEIGHT, 1)
    tunings = [tuning for curve in shown for tuning in curve.healing.blocks.values()]
    _vertical(axes, [100 * loss for t in tunings for loss in (t.before, t.after)])
    for curve in shown:
        look, blocks = curve.look, curve.healing.blocks
        axes.plot([*blocks], [100 * b.before for b in blocks.values()], color=look.colour, **THIN)
        _held_out(axes, [100 * b.after for b in blocks.values()], [*blocks], look)
        for index, block in blocks.items():
            if block.stopped:
                _cross(axes, index, 100 * block.after, look)
    axes.set_xlabel("decoder block", fontsize=SMALL)
    axes.set_ylabel("held-out error (% of the\nblock's own update)", fontsize=SMALL)
    even_ticks(axes, "x")
    finish(axes)
    return _labelled(figure, shown, title, ["thin: before", "markers: as kept"], tunings)


def _vertical(axes: Axes, values: Sequence[float]) -> float:
    """Set limits that hold the values, logarithmic if they span much; returns the largest shown."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known), max(known)
    if spans(known, LOG_SPAN):
        high = log_limit(known)
        room = (high / low) ** ROOM
        log_scale(axes, "y", low / room, high * room)
    else:
        room = ROOM * ((high - low) or abs(high) or 1.0)
        axes.set_ylim(max(0.0, low - room), high + room)
        even_ticks(axes, "y")
    return high


def _labelled(
    figure: Figure,
    shown: Sequence[Curve],
    title: str,
    notes: Sequence[str],
    tunings: Sequence[Tuning],
) -> Figure:
    stopped = [DIVERGED] * any(tuning.stopped for tuning in tunings)
    method_legend(figure, [curve.look for curve in shown], "; ".join([*notes, *stopped]))
    if title:
        figure.suptitle(title, fontsize=TEXT)
    return figure
