"""The page of one run: everything behind its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from flrc.results.pages.references import References
from flrc.results.pages.samples import Replies, dense_replies, first
from flrc.results.records.healing import healing_of
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
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.columns import dataset

COUNTED = ("rate", "parameters", "bytes", "flops_per_token", "search", "phases")
"""Results without a table of their own."""


def page_of_run(
    anchor: str,
    record: Record,
    replies: Sequence[Replies],
    dense: Sequence[tuple[Record, list[Replies]]],
    references: References,
) -> dict[str, Any]:
    """What the template shows of a record.

    ``dense`` are the available dense runs with their replies.
    """
    run, results, meta = record.run, record.results, record.meta
    git = meta.get("git") or {}
    facts = {
        "commit": f"{git.get('commit') or DASH}{' (modified)' if git.get('dirty') else ''}",
        **{key: meta.get(key) for key in ("started", "device", "processor", "dtype", "threads")},
        "seed": run.get("seed"),
        "healing": healing_of(record),
    }
    versions = meta.get("versions") or {}
    measured = [measurements(m) for m in (record.measurements, record.other_settings)]
    # Shown by number, from 1.
    settings = list(dict.fromkeys(row[-1] for table in measured for row in table.rows))
    latest, others = (_numbered(table, settings) for table in measured)
    command = str(meta.get("command") or "")
    return {
        "anchor": anchor,
        "run": run,
        "model": model_name(record),
        "rate": requested_rate(record),
        # Records name the script without the interpreter.
        "command": f"python {command}" if command.startswith("run.py") else command,
        "facts": [(key, str(value)) for key, value in facts.items() if value is not None],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "fingerprints": _fingerprints(record),
        "config": run.get("config", {}),
        "counts": [
            (key, plain(value))
            for name in COUNTED
            for key, value in flatten({name: results.get(name)}).items()
            if value not in (None, [], {})
        ],
        "measurements": latest,
        "other_settings": others,
        "settings": settings,
        "layers": _without_prefix(layers(results.get("layers", []))),
        "candidates": candidates(results.get("schedule_search") or {}),
        "stages": stages(meta.get("stages", [])),
        "rescues": [f"{row['target']}: {row['what']}" for row in results.get("rescues", [])],
        "answers": [
            _answers(mine, record, dense, references) for mine in replies if run["status"] == "ok"
        ],
    }


def _numbered(table: Rows, settings: Sequence[str]) -> Rows:
    """The table with the number of its settings, in place of the settings, in the last column."""
    rows = [[*row[:-1], str(1 + settings.index(row[-1]))] for row in table.rows]
    return Rows(table.titles, rows)


def _without_prefix(table: Rows) -> Rows:
    """The table with what all names in the first column begin with in its title instead."""
    names = [row[0].split(".")[:-1] for row in table.rows]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False))
    prefix = "".join(f"{parts[0]}." for parts in shared)
    if not prefix:
        return table
    rows = [[row[0].removeprefix(prefix), *row[1:]] for row in table.rows]
    return Rows([f"{table.titles[0]} ({prefix}...)", *table.titles[1:]], rows)


def _answers(
    mine: Replies,
    record: Record,
    dense: Sequence[tuple[Record, list[Replies]]],
    references: References,
) -> dict[str, Any]:
    """The first replies on one data set, beside the dense model's and the references."""
    is_dense = record.run["method"] == "dense"
    beside = None if is_dense else dense_replies(mine, record, dense)
    people = references.of(mine.dataset, mine.settings)
    return {
        "dataset": mine.dataset,
        "total": len(mine.items),
        "settings": ", ".join(f"{key}={plain(value)}" for key, value in mine.settings.items()),
        "beside": is_dense or beside is not None,
        "referenced": bool(people),
        "samples": first(mine, beside, people),
    }


def _fingerprints(record: Record) -> list[tuple[str, str]]:
    digests = {"model": record.meta.get("model_revision")}
    digests |= record.meta.get("data_revisions") or {}
    for m in record.measurements:
        if m.settings.get("data"):
            digests.setdefault(dataset(m.name), m.settings["data"])
    return [(name, plain(value)) for name, value in digests.items() if value]
