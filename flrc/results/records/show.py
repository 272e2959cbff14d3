"""Records in a terminal: one line each, all of one, or the difference of two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from flrc.core.jsonfile import canonical
from flrc.results.records.checkpoint_places import PLACES, noted, without_places
from flrc.results.records.differences import differences
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.headline import headline
from flrc.results.records.healing import healing_of
from flrc.results.records.measurement import Measurement
from flrc.results.records.neutral import is_neutral
from flrc.results.records.paired import Paired
from flrc.results.records.record import Record
from flrc.results.records.rows import (
    DASH,
    Rows,
    candidates,
    flatten,
    layers,
    measurements,
    plain,
    stages,
)
from flrc.results.records.run_key import key_of
from flrc.results.records.sharing import shareable
from flrc.results.records.store import model_name, requested_rate

STATUS_STYLE = {"ok": "green", "failed": "bold red", "running": "yellow"}


def listing(records: Iterable[Record], now: datetime) -> Table:
    """One line per run, the newest last: what it is, its headline measurements, its age.

    The settings are those in which the runs of its method differ. The seed is left out where all
    runs have the same.
    """
    titles = ["id", "method", "settings", "model", "rate", "seed", "status", "measurements", "age"]
    known = sorted(distinct_models(records), key=_started)
    told_apart = differences(known)
    if not any(told_apart):
        titles.remove("settings")
    seeds = [str(record.run.get("seed", "")) for record in known]
    if len(set(seeds)) == 1:
        titles.remove("seed")
    table = _plain_table(titles)
    table.padding = (0, 1, 0, 0)
    for record, settings, seed in zip(known, told_apart, seeds, strict=True):
        run = record.run
        status = str(run["status"])
        values = {m.name: m.value for m in record.measurements}
        table.add_row(
            Text(str(run["id"]), no_wrap=True),
            str(run["method"]),
            *(["\n".join(settings)] if "settings" in titles else []),
            model_name(record),
            f"{requested_rate(record):g}",
            *([seed] if "seed" in titles else []),
            Text(status, style=STATUS_STYLE.get(status, "")),
            _failure(run) or "\n".join(f"{name} {values[name]:.4g}" for name in headline(values)),
            age(record.meta.get("started"), now),
        )
    return table


def whole(record: Record) -> Group:
    """All of a record, the most important first."""
    run, results, meta = record.run, record.results, record.meta
    status = str(run["status"])
    shown = sorted(without_places(meta).keys() - {"command", "git", "stages"})
    parts: list[RenderableType] = [
        Text(
            f"{run['id']}  {run['method']}  {model_name(record)}  rate {requested_rate(record):g}"
        ),
        Text(f"status: {status} {_failure(run)}".rstrip(), style=STATUS_STYLE.get(status, "")),
        _section("run"),
        _pairs({"command": meta.get("command"), "commit": _commit(meta.get("git") or {})}),
        _pairs({key: meta[key] for key in shown}),
        *(_pairs({PLACES: place["folder"]}) for place in noted(record)),
        _section("configuration"),
        _tree("config", run.get("config", {})),
    ]
    if record.measurements:
        parts += [_section("measurements"), *_measured(record.measurements)]
    if record.other_settings:
        title = "measurements of earlier commands, under other settings"
        parts += [_section(title), *_measured(record.other_settings)]
    for key in ("rate", "parameters", "bytes", "flops_per_token", "phases", "search", "rescues"):
        if results.get(key) not in (None, [], {}):
            parts.append(_pairs({key: results[key]}))
    if (healed := healing_of(record)) is not None:
        parts.append(_pairs({"healing": str(healed)}))
    if results.get("schedule_search"):
        search = results["schedule_search"]
        cost = {key: value for key, value in search.items() if key != "candidates"}
        parts += [_section("schedule search"), _pairs({"cost": cost}), _table(candidates(search))]
    if results.get("layers"):
        by_layer = layers(results["layers"])
        module = _common_module([row[0] for row in by_layer.rows])
        rows = [[row[0].removeprefix(f"{module}."), *row[1:]] for row in by_layer.rows]
        title = f"layers of {module}" if module else "layers"
        parts += [_section(title), _table(Rows(by_layer.titles, rows))]
    if meta.get("stages"):
        parts += [_section("stages"), _table(stages(meta["stages"]))]
    return Group(*parts)


def difference(first: Record, second: Record) -> Group:
    """Configuration keys that differ, and the differences of the measurements.

    A record that was made shareable (a checkpoint's, a committed one) has no paths; the other's are
    then no difference.
    """
    if not all("paths" in record.run.get("config", {}) for record in (first, second)):
        first, second = shareable(first), shareable(second)
    names = names_of(first, second)
    keys = _plain_table(["key", *names], "configuration")
    left, right = (flatten(record.run.get("config", {})) for record in (first, second))
    for key in sorted(left.keys() | right.keys()):
        if canonical(left.get(key)) != canonical(right.get(key)) or (key in left) != (key in right):
            keys.add_row(
                key, *(plain(side[key]) if key in side else DASH for side in (left, right))
            )
    numbers = _plain_table(["measurement", *names, "difference"], "\nmeasurements")
    before, after = ({m.name: m for m in record.measurements} for record in (first, second))
    for name in [*before, *(name for name in after if name not in before)]:
        a, b = before.get(name), after.get(name)
        numbers.add_row(name, _number(a), _number(b), _change(a, b))
    return Group(keys if keys.row_count else Text("configuration: no difference"), numbers)


def names_of(first: Record, second: Record) -> list[str]:
    """The ids of two runs; where they are equal, with the labels of their models."""
    keys = [key_of(record) for record in (first, second)]
    return [key.id if keys[0].id != keys[1].id else f"{key.id} ({key.model})" for key in keys]


def paired(comparisons: Iterable[Paired], first: str, second: str) -> Table:
    """Scores of the items that both runs share, with 95 % intervals of the mean difference."""
    title = f"paired bootstrap over items; above: share of resamples in which {second} is higher"
    titles = ["score", "items", first, second, "difference", "95 % interval", "above"]
    table = _plain_table(titles, f"\n{title}")
    table.padding = (0, 1, 0, 0)
    for column in table.columns[2:5]:
        column.no_wrap = True
    for c in comparisons:
        means = [f"{c.first:.4g}", f"{c.second:.4g}", f"{c.second - c.first:+.3g}"]
        interval = f"{c.low:+.3g} to {c.high:+.3g}"
        table.add_row(
            c.name.partition("/")[2] or c.name, str(c.items), *means, interval, f"{c.above:.1%}"
        )
    return table


def age(started: Any, now: datetime) -> str:
    """How long ago a run started; ``started`` in ISO 8601, or seconds since 1970."""
    if started is None:
        return DASH
    seconds = max(0.0, (now - _moment(started)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _moment(started: Any) -> datetime:
    if isinstance(started, int | float):
        return datetime.fromtimestamp(started, UTC)
    moment = datetime.fromisoformat(str(started))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _started(record: Record) -> datetime:
    """When a run started; records without a time come first."""
    started = record.meta.get("started")
    return datetime.min.replace(tzinfo=UTC) if started is None else _moment(started)


def _failure(run: dict[str, Any]) -> str:
    return f"{run.get('stage', '?')}: {run.get('error', '?')}" if run["status"] == "failed" else ""


def _commit(git: dict[str, Any]) -> str:
    return f"{git.get('commit', '?')}{' with uncommitted changes' if git.get('dirty') else ''}"


def _section(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _pairs(values: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
        table.add_row(Text(key, style="cyan"), Text(plain(value)))
    return table


def _tree(title: str, values: dict[str, Any], root: Tree | None = None) -> Tree:
    tree = root if root is not None else Tree(Text(title))
    for key, value in values.items():
        if isinstance(value, dict) and value:
            _tree(key, value, tree.add(Text(str(key))))
        else:
            tree.add(Text(f"{key}: {plain(value)}"))
    return tree


def _plain_table(titles: Sequence[str], title: str | None = None) -> Table:
    """A table whose texts are broken where it is wider than the terminal, never cut.

    The names in its first column stay whole.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.padding = (0, 2, 0, 0)
    for number, head in enumerate(titles):
        table.add_column(head, overflow="fold", no_wrap=number == 0)
    return table


def _table(shown: Rows) -> Table:
    table = _plain_table(shown.titles)
    for row in shown.rows:
        table.add_row(*map(Text, row))
    return table


def _measured(measured: Iterable[Measurement]) -> Iterator[RenderableType]:
    """A table for each group of equal settings, which stand below it."""
    groups: dict[str, list[Measurement]] = {}
    for m in measured:
        groups.setdefault(canonical(m.settings), []).append(m)
    for group in groups.values():
        shown = measurements(group)
        yield _table(Rows(shown.titles[:-1], [row[:-1] for row in shown.rows]))
        yield Text(f"settings: {shown.rows[0][-1]}\n", style="dim")


def _common_module(names: Sequence[str]) -> str:
    """The innermost module that holds all of these modules; empty if it is the model."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))


def _number(measurement: Measurement | None) -> str:
    return DASH if measurement is None else f"{measurement.value:.6g}"


def _change(before: Measurement | None, after: Measurement | None) -> str:
    if before is None or after is None:
        return ""
    if canonical(before.settings) != canonical(after.settings):
        return "not comparable: settings differ"
    change = after.value - before.value
    if not math.isfinite(change):
        return "not finite"
    if change == 0:
        return "0"
    if is_neutral(after.name):
        return f"{change:+.4g}"
    better = (change > 0) == after.higher_is_better
    return f"{change:+.4g} ({'better' if better else 'worse'})"
