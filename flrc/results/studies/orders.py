"""The paper's claims that are an order, checked against its own numbers and against ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from flrc.results.records.paired import Paired, averaged, compare, student
from flrc.results.studies.expected import Expected, Order
from flrc.results.tables.columns import Column
from flrc.results.tables.facts import Facts
from flrc.results.tables.grid import Cell, Grid, Row, shown_mean
from flrc.results.tables.layout import Layout
from flrc.results.tables.section import Section
from flrc.results.tables.value import TableRun, Value, value_of

SEPARATED = 2.0
"""Standard errors by which a difference must differ from 0 to be significant."""
EXACT = ("/perplexity",)
"""Metrics on the same tokens: the spread over windows is not an error of their difference."""
REPEATS = ("_lowest", "_highest")
"""Suffixes of the names of the lowest and the highest of a ratio's repeats."""
VERDICT = "verdict"
"""Name of the column that holds the verdict."""
NOT_FINITE = "a number is not finite"
VERDICTS = ("does not hold", "not separated, reversed", "not separated", "holds")
"""From the worst for the claim to the best; equal numbers are not separated."""
READING = (
    "A difference is significant if its 95 % interval, in brackets, excludes 0: with one seed "
    "each, over the items (paired bootstrap); with several, over the seeds (in pairs, Student's t) "
    "or over the items' means, whichever is wider. Without pairs, it is significant beyond "
    f"{SEPARATED:g} standard errors of the difference (as if both sides were independent). "
    "Perplexities of one seed each are of the same tokens: any difference counts. "
    "A speed-up differs significantly from 1 if all its repeats are on one side. "
    "That two are alike can be refuted here, not shown."
)


def sections(layout: Layout, expected: Expected, runs: Sequence[TableRun]) -> list[Section]:
    """What the paper claims, and whether it holds here; nothing if it claims nothing."""
    text = [_sentence(claim) for claim in expected.claims]
    rows = [row for order in expected.orders for row in _rows(layout, expected, runs, order)]
    if not rows:
        return [Section("What the paper says", text)] if text else []
    columns = [Column("paper", "", "paper", ""), Column("here", "", "here", "")]
    columns.append(Column(VERDICT, "", "verdict", ""))
    grid = Grid(["better", "worse", "metric", "rate"], columns, rows)
    return [Section("What the paper says", [*text, READING], grid)]


def verdict(
    better: Value, worse: Value, metric: str, interval: tuple[float, float] | None = None
) -> str:
    """Whether the first is better than the second, as claimed, and significantly so.

    A difference is significant if ``interval``, the confidence interval of ``better`` minus
    ``worse`` if known, excludes 0.
    """
    sign = 1 if better.higher_is_better else -1
    gain = sign * (better.mean - worse.mean)
    if interval is not None:
        significant = interval[0] > 0 or interval[1] < 0
    else:
        errors = [e for e in (better.error, worse.error) if e is not None]
        exact = metric.endswith(EXACT) and max(better.count, worse.count) == 1
        error = 0.0 if exact else sum(e * e for e in errors) ** 0.5
        significant = abs(gain) > SEPARATED * error
    if not math.isfinite(gain):
        return NOT_FINITE
    if gain == 0:
        return VERDICTS[2]
    return VERDICTS[(3 if significant else 2) if gain > 0 else (0 if significant else 1)]


def alike(verdict: str) -> str:
    """The verdict on a claim of equality, from the verdict on the order.

    A significant difference refutes it. Otherwise it stays open: there may be too few items.
    """
    if verdict == NOT_FINITE:
        return verdict
    return VERDICTS[0 if verdict in (VERDICTS[0], VERDICTS[3]) else 2]


def _interval(
    better: Value, worse: Value, metric: str, runs: Sequence[TableRun]
) -> tuple[float, float] | None:
    """Confidence interval of ``better`` minus ``worse``; None without pairs and without repeats."""
    if worse.runs:
        pair = _paired(better, worse, metric, runs)
        return (pair.low, pair.high) if pair else None
    measured = [run.measurements for run in runs if run.key in better.runs]
    ends = [[m[metric + end].value for m in measured if metric + end in m] for end in REPEATS]
    return (min(ends[0]) - worse.mean, max(ends[1]) - worse.mean) if all(ends) else None


def _paired(better: Value, worse: Value, metric: str, runs: Sequence[TableRun]) -> Paired | None:
    """``better`` against ``worse`` in pairs of items or of seeds, whichever interval is wider.

    None if there are no pairs, and for perplexities of one seed each.
    """
    known = {run.key: run for run in runs}
    first, second = ([known[name] for name in side.runs] for side in (worse, better))
    seeds = _over_seeds(first, second, metric)
    if metric.endswith(EXACT):
        return seeds
    if not seeds and len(first) + len(second) > 2:
        return None
    dataset, _, score = metric.rpartition("/")
    items = [averaged([run.items for run in side]) for side in (first, second)]
    pairs = compare(items[0], items[1], only=f"/{dataset} {score}")[:1]
    pairs += [seeds] if seeds else []
    return max(pairs, key=lambda pair: pair.high - pair.low, default=None)


def _over_seeds(
    first: Sequence[TableRun], second: Sequence[TableRun], metric: str
) -> Paired | None:
    """Pairs of seeds; None unless both sides have the same seeds, at least two."""
    values = [
        {int(run.record.run["seed"]): run.measurements[metric].value for run in side}
        for side in (first, second)
    ]
    if len(values[0]) < 2 or values[0].keys() != values[1].keys():
        return None
    one, two = ([side[seed] for seed in sorted(side)] for side in values)
    return student(one, two, metric)


def _rows(layout: Layout, expected: Expected, runs: Sequence[TableRun], order: Order) -> list[Row]:
    """One row for each rate (and model) at which both sides are measured."""
    rows = []
    compressed = [run.facts for run in runs if run.facts["rate"] > 0]
    places = sorted({_place(facts, order, layout) for facts in compressed}, key=str)
    for place in places:
        facts = dict(place)
        better = value_of(runs, _side(facts, order.above), order.metric)
        worse = value_of(runs, _side(facts, order.below), order.metric)
        if worse is None and better is not None and order.number is not None:
            worse = replace(better, mean=order.number, deviation=None, stderr=None, runs=[])
        if better is None or worse is None:
            continue
        titles = [_name(layout, order.above, order.below), _name(layout, order.below, order.above)]
        rate = facts.get("rate", order.above.get("rate", order.below.get("rate")))
        labels = [
            *titles,
            layout.columns.get(order.metric, order.metric) + (" (alike)" if order.alike else ""),
            layout.label("rate", rate) if rate is not None else "",
        ]
        papers = _papers(expected, order, rate)
        interval = _interval(better, worse, order.metric, runs)
        here = f"{shown_mean(better)} / {shown_mean(worse)}"
        if interval:
            digits = 1 if worse.runs else 2  # points of a score, or a ratio
            here += f" ({interval[0]:+.{digits}f} to {interval[1]:+.{digits}f})"
        holds = verdict(better, worse, order.metric, interval)
        cells = [Cell(papers), Cell(here), Cell(alike(holds) if order.alike else holds)]
        rows.append(Row(labels, cells))
    return rows


def _place(facts: Facts, order: Order, layout: Layout) -> tuple[tuple[str, object], ...]:
    """The facts that both sides share: all those of the table that the order does not name."""
    named = order.above.keys() | order.below.keys()
    shared = [fact for fact in (*layout.rows, layout.group) if fact in facts and fact not in named]
    return tuple((fact, facts[fact]) for fact in shared)


def _side(place: Facts, side: Facts) -> Facts:
    facts = place | {fact: value for fact, value in side.items() if fact != "model"}
    return facts | {"rate": 0.0} if facts.get("method") == "dense" else facts


def _papers(expected: Expected, order: Order, rate: object) -> str:
    """The paper's pairs of numbers at this rate, one for each model."""
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
    """The printed names of the facts in which the sides differ."""
    return ", ".join(
        filter(None, (layout.label(f, v) for f, v in side.items() if other.get(f) != v))
    )


def _sentence(claim: dict[str, object]) -> str:
    text = str(claim["text"])
    if "value" in claim:
        unit = str(claim["unit"])
        text += f": {claim['value']}{'' if unit == '%' else ' '}{unit}"
    text += f" ({claim['place']})."
    return f"{text} At small scale: {claim['small']}" if "small" in claim else text
