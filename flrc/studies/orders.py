"""The paper's claims that are an order, against its own numbers and against ours."""

from __future__ import annotations

from collections.abc import Sequence

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
VERDICTS = (
    "does not hold",
    "not separated, reversed",
    "not separated",
    "holds",
)
READING = (
    f"Told apart: by {SEPARATED:g} standard errors of the difference (over items or seeds, as if "
    "they were independent; on the same items this is cautious). Perplexities are of the same "
    "tokens: any difference counts."
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


def verdict(better: Value, worse: Value, metric: str) -> str:
    """Whether the first is better than the second, and by more than their errors."""
    gain = better.mean - worse.mean if better.higher_is_better else worse.mean - better.mean
    errors = [e for e in (better.error, worse.error) if e is not None]
    seeds = better.count > 1 and worse.count > 1
    if not errors or (metric.endswith(EXACT) and not seeds):
        return VERDICTS[3] if gain > 0 else VERDICTS[0]
    apart = abs(gain) > SEPARATED * sum(e * e for e in errors) ** 0.5
    return VERDICTS[(3 if apart else 2) if gain > 0 else (0 if apart else 1)]


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
        here = f"{number(better.mean, better.unit)} / {number(worse.mean, worse.unit)}"
        cells = [Cell(papers), Cell(here), Cell(verdict(better, worse, order.metric))]
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
