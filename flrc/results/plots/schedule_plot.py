"""The rate at each forward step of a reply, for runs whose ranks change while text is generated."""

from __future__ import annotations

import textwrap
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.plans.phase import Phase, first_steps
from flrc.results.plots.axes import even_ticks
from flrc.results.plots.methods import Look
from flrc.results.plots.names import Names, percent
from flrc.results.plots.style import GREY, SMALL, TEXT, finish, finished, panel_grid
from flrc.results.records.record import Record
from flrc.results.records.store import requested_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 2
WIDTH, HEIGHT, LINE = 3.4, 2.2, 0.16
"""Inches of a panel, and of a line of the legend below it."""
LEGEND_WIDTH = 44
"""Characters in a line of a legend below a panel."""


@dataclass(frozen=True)
class Timeline:
    """The rate of one run over a reply, at each forward step, the prefill first.

    Attributes:
        name: Method, and model if they differ.
        look: Colour of the method.
        requested: An average over forward steps.
        average: The average over the replies of its evaluation; None if it generated none.
    """

    name: str
    look: Look
    requested: float
    average: float | None
    rates: list[float]

    @property
    def constant(self) -> bool:
        """Whether the rate never changes."""
        return len(set(self.rates)) == 1


def timelines(records: Sequence[Record], names: Names | None = None) -> list[Timeline]:
    """The runs whose rate changes and, at the same requested rates, those whose rate does not.

    Runs that differ only in the seed and have the same rates count once.
    """
    runs = [record for record in finished(records) if record.results.get("phases")]
    steps = max((_new_tokens(r) for r in runs if len(r.results["phases"]) > 1), default=0)
    if not steps:
        return []
    lines: dict[tuple[str, float, str], Timeline] = {}
    names = names or Names()
    labels = names.run_names(runs, rate=False)
    for record, name, look in zip(runs, labels, names.looks_of(runs), strict=True):
        rates = _rates(record, _new_tokens(record) or steps)
        line = Timeline(name, look, requested_rate(record), _average(record), rates)
        lines.setdefault((name, line.requested, repr(rates)), line)
    changing = {line.requested for line in lines.values() if not line.constant}
    return sorted(
        (line for line in lines.values() if line.requested in changing),
        key=lambda line: line.requested,
    )


def draw(records: Sequence[Record], names: Names | None = None) -> list[Figure]:
    """Draw one panel for each requested rate: a line for each run, constant ones dashed."""
    shown = timelines(records, names)
    if not shown:
        return []
    rates = list(dict.fromkeys(line.requested for line in shown))
    top = 1.1 * max(max(line.rates) for line in shown)
    most = max(sum(text.count("\n") + 1 for text, _ in _entries(shown, rate)) for rate in rates)
    across = min(len(rates), ACROSS)
    figure, panels = panel_grid(len(rates), HEIGHT + LINE * most, across, sharey=True)
    figure.set_figwidth(WIDTH * across)
    for axes, rate in zip(panels, rates, strict=True):
        _panel(axes, _entries(shown, rate))
        axes.set_ylim(0, top)
        axes.set_title(f"rate {percent(rate)}", fontsize=TEXT)
    return [figure]


def _entries(shown: Sequence[Timeline], rate: float) -> list[tuple[str, Timeline]]:
    """Legend texts and lines of a panel; constant plans of one rate share a line."""
    lines = [line for line in shown if line.requested == rate]
    entries = [
        (f"{line.name} ({_percent(line.average)} on average)" if line.average else line.name, line)
        for line in lines
        if not line.constant
    ]
    constant: dict[float, list[Timeline]] = {}
    for line in lines:
        if line.constant:
            constant.setdefault(round(line.rates[0], 3), []).append(line)
    for value, group in constant.items():
        same = ", ".join(dict.fromkeys(line.name for line in group))
        longest = max(group, key=lambda line: len(line.rates))
        entries.append((f"{same} ({_percent(value)} throughout)", longest))
    return [(textwrap.fill(text, LEGEND_WIDTH), line) for text, line in entries]


def _panel(axes: Axes, entries: Sequence[tuple[str, Timeline]]) -> None:
    for place, (text, line) in enumerate(entries):
        style: dict[str, Any] = (
            {"color": GREY, "linestyle": "--", "linewidth": 1.1}
            if line.constant
            # Of equal lines, both show.
            else {
                "color": line.look.colour,
                "linestyle": line.look.line,
                "linewidth": max(1.2, 2.2 - 0.5 * place),
            }
        )
        edges = range(len(line.rates) + 1)  # step k, from 0, fills [k, k + 1]
        axes.stairs(line.rates, edges, baseline=None, label=text, **style)
    axes.set_xlim(0, max(len(line.rates) for _, line in entries))
    axes.set_xlabel("forward step of a reply (0: prefill)", fontsize=SMALL)
    axes.set_ylabel("rate at the step (%)", fontsize=SMALL)
    axes.yaxis.set_major_formatter(lambda rate, _: f"{100 * rate:.3g}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False, fontsize=SMALL,
                labelspacing=0.3)  # fmt: skip
    even_ticks(axes, "x")
    even_ticks(axes, "y")
    finish(axes)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _rates(record: Record, steps: int) -> list[float]:
    recorded = record.results["phases"]
    phases = [Phase(p.get("begin", 0.0), p["realised"], p.get("step")) for p in recorded]
    begins = first_steps(phases, steps)
    return [phases[bisect(begins, step) - 1].rate for step in range(steps)]


def _average(record: Record) -> float | None:
    values = [m.value for m in record.measurements if m.name.rpartition("/")[2] == "rate"]
    return values[0] if values else None


def _new_tokens(record: Record) -> int:
    """Length limit of replies in the evaluation, else in the schedule's search; 0 if unknown."""
    config = record.run.get("config", {})
    evaluation = config.get("evaluation")
    parts = [*(evaluation.values() if isinstance(evaluation, dict) else ()), config.get("search")]
    limits = [part.get("max_new_tokens") for part in parts if isinstance(part, dict)]
    return next((int(limit) for limit in limits if limit), 0)
