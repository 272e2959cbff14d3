"""The paper's claims that are an order, against its own numbers and against ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flrc.records.paired import Paired, compare
from flrc.reporting.columns import Column
from flrc.reporting.grid import Cell, Grid, Row, number
from flrc.reporting.section import Section
from flrc.studies.cells import Run, Value, value
from flrc.studies.facts import Facts
from flrc.studies.layout import Expected, Layout, Order

SEPARATED = 2.0
"""Standard errors of the difference from which on two numbers are told apart."""
EXACT = ("/perplexity",)
"""Metrics compared on the same tokens: the spread over windows is no error of the difference."""
VERDICT = "verdict"
"""Name of the column that holds one of these."""
NOT_FINITE = "a number is not finite"
VERDICTS = ("does not hold", "not separated, reversed", "not separated", "holds")
"""From the worst for the claim to the best; equal numbers are not separated."""
READING = (
    "Told apart: where the items of both runs are at hand, by the 95 % interval of a paired "
    "bootstrap over them, in brackets; else by "
    f"{SEPARATED:g} standard errors of the difference (over items or seeds, as if they were "
    "independent, which is cautious). Perplexities are of the same tokens: any difference counts."
)


def sections(layout: Layout, expected: Expected, runs: Sequence[Run]) -> list[Section]:
    """What the paper says, and whether it holds here; nothing if it claims nothing."""
    text = [_sentence(claim) for claim in expected.claims]
    rows = [row for order in expected.orders for row in _rows(layout, expected, runs, order)]
    if not rows:
        return [Section("What the paper says", text)] if text else []
    columns = [Column("paper", "", "paper", ""), Column("here", "", "here", "")]
    columns.append(Column(VERDICT, "", "verdict", ""))
    grid = Grid(["better", "worse", "metric", "rate"], columns, rows, [])
    return [Section("What the paper says", [*text, READING], grid)]


def verdict(better: Value, worse: Value, metric: str, pair: Paired | None = None) -> str:
    """Whether the first is better than the second, and by more than chance.

    Args:
        better: The number that is claimed to be the better one.
        worse: The other.
        metric: What both measure.
        pair: ``better`` against ``worse`` item by item, where the items are at hand.
    """
    sign = 1 if better.higher_is_better else -1
    gain = sign * (better.mean - worse.mean)
    if pair is not None:
        apart = pair.low > 0 or pair.high < 0
    else:
        errors = [e for e in (better.error, worse.error) if e is not None]
        exact = metric.endswith(EXACT) and min(better.count, worse.count) == 1
        error = 0.0 if exact else sum(e * e for e in errors) ** 0.5
        apart = abs(gain) > SEPARATED * error
    if not math.isfinite(gain):
        return NOT_FINITE
    if gain == 0:
        return VERDICTS[2]
    return VERDICTS[(3 if apart else 2) if gain > 0 else (0 if apart else 1)]


def _paired(better: Value, worse: Value, metric: str, runs: Sequence[Run]) -> Paired | None:
    """``better`` against ``worse`` item by item; None for several seeds or without their items."""
    known = {str(run.record.run["id"]): run for run in runs}
    dataset, _, score = metric.rpartition("/")
    if better.count > 1 or worse.count > 1 or metric.endswith(EXACT):
        return None
    first, second = (known[side.runs[0]].items for side in (worse, better))
    return next(iter(compare(first, second, only=f"/{dataset} {score}")), None)


def _rows(layout: Layout, expected: Expected, runs: Sequence[Run], order: Order) -> list[Row]:
    """One row a rate (and model of ours) at which both sides are measured."""
    rows = []
    compressed = [run.facts for run in runs if run.facts["rate"] > 0]
    places = sorted({_place(facts, order, layout) for facts in compressed}, key=str)
    for place in places:
        facts = dict(place)
        better = value(runs, _side(facts, order.above), order.metric)
        worse = value(runs, _side(facts, order.below), order.metric)
        if better is None or worse is None:
            continue
        titles = [_name(layout, order.above, order.below), _name(layout, order.below, order.above)]
        rate = facts.get("rate", order.above.get("rate", order.below.get("rate")))
        labels = [
            *titles,
            layout.columns.get(order.metric, order.metric),
            layout.label("rate", rate) if rate is not None else "",
        ]
        papers = _papers(expected, order, rate)
        pair = _paired(better, worse, order.metric, runs)
        here = f"{number(better.mean, better.unit)} / {number(worse.mean, worse.unit)}"
        here += f" ({pair.low:+.1f} to {pair.high:+.1f})" if pair else ""
        cells = [Cell(papers), Cell(here), Cell(verdict(better, worse, order.metric, pair))]
        rows.append(Row(labels, cells, False))
    return rows


def _place(facts: Facts, order: Order, layout: Layout) -> tuple[tuple[str, object], ...]:
    """The facts that both sides share: all of the table that the order does not name."""
    named = order.above.keys() | order.below.keys()
    shared = [fact for fact in (*layout.rows, layout.group) if fact in facts and fact not in named]
    return tuple((fact, facts[fact]) for fact in shared)


def _side(place: Facts, side: Facts) -> Facts:
    facts = place | {fact: what for fact, what in side.items() if fact != "model"}
    return facts | {"rate": 0.0} if facts.get("method") == "dense" else facts


def _papers(expected: Expected, order: Order, rate: object) -> str:
    """The paper's pairs of numbers at this rate, one a model."""
    pairs = []
    for facts, values in expected.rows:
        if order.metric not in values or not order.above.items() <= facts.items():
            continue
        if rate is not None and facts.get("rate") not in (rate, None, 0):
            continue
        shared = {f: v for f, v in facts.items() if f not in order.above and f not in order.below}
        for others, theirs in expected.rows:
            dense = order.below.get("method") == "dense"
            asked = {f: v for f, v in (shared | order.below).items() if not (dense and f == "rate")}
            if order.metric in theirs and asked.items() <= others.items():
                pairs.append(f"{values[order.metric]:g} / {theirs[order.metric]:g}")
                break
    return "; ".join(pairs)


def _name(layout: Layout, side: Facts, other: Facts) -> str:
    """The printed names of what tells one side from the other."""
    names = [layout.label(f, what) for f, what in side.items() if other.get(f) != what]
    return ", ".join(names)


def _sentence(claim: dict[str, object]) -> str:
    text = str(claim["text"])
    if "value" in claim:
        unit = str(claim["unit"])
        text += f": {claim['value']}{'' if unit == '%' else ' '}{unit}"
    return f"{text} ({claim['place']})."
