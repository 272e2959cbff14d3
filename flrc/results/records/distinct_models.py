"""Distinct labels for distinct models."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable

from flrc.results.records.record import Record
from flrc.results.records.store import model_name


def distinct_models(records: Iterable[Record]) -> list[Record]:
    """The records, with a part of the fingerprint added to labels that several models share.

    Two folders of the same name, labels set by hand and models in memory can share a label; their
    rows must neither share a cell nor be compared as methods on one model.
    """
    given = list(records)
    known: dict[str, set[str]] = defaultdict(set)
    for record in given:
        known[model_name(record)].add(_revision(record))
    shared = {label for label, revisions in known.items() if len(revisions) > 1}
    return [
        _relabelled(record, f"{model_name(record)} ({_revision(record)[:8] or 'unknown'})")
        if model_name(record) in shared
        else record
        for record in given
    ]


def _revision(record: Record) -> str:
    return str(record.meta.get("model_revision") or "")


def _relabelled(record: Record, label: str) -> Record:
    config = record.run.get("config", {})
    model = {**config.get("model", {}), "label": label}
    return dataclasses.replace(record, run={**record.run, "config": {**config, "model": model}})
