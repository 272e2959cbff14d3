"""Replies that a run generated, beside those of the dense model and the references."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.records.record import Record
from flrc.results.records.store import EVALUATIONS, RunFolder, model_name
from flrc.results.tables.columns import dataset

SAMPLES = "samples.json"
"""In a run's folder: data set -> items, for records that are stored without their evaluations."""
SHOWN = 5

Runs = Sequence[tuple[RunFolder, Record]]


@dataclass(frozen=True)
class Replies:
    """The replies of a run on one data set: settings, and item id -> all that is stored of it."""

    dataset: str
    settings: dict[str, Any]
    items: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """One reply, the dense model's and the reference if they are available, and its scores."""

    item: str
    reply: str
    dense: str | None
    reference: str | None
    scores: dict[str, float]


def replies(folder: RunFolder, record: Record) -> list[Replies]:
    """The replies in a run's folder: in its evaluation's files, else in ``samples.json``.

    A damaged file counts as missing, with a warning.
    """
    known = []
    for path in sorted((folder.path / EVALUATIONS).glob("summarization.*.json")):
        values = folder.read_json(f"{EVALUATIONS}/{path.name}")
        if isinstance(values, dict):
            settings = values.get("settings") or {}
            name = str(settings.get("dataset", values.get("part", "?")))
            known.append(Replies(name, settings, _items(values.get("items"))))
    if known:
        return known
    kept = folder.read_json(SAMPLES)
    settings_of = {dataset(m.name): m.settings for m in record.measurements}
    return [
        Replies(name, settings_of.get(name, {}), _items(items))
        for name, items in (kept.items() if isinstance(kept, dict) else ())
    ]


def dense_replies(
    mine: Replies, record: Record, dense: Sequence[tuple[Record, list[Replies]]]
) -> Replies | None:
    """The dense model's replies to the same data under the same settings, if available."""
    for other, theirs in dense:
        for candidate in theirs:
            if (
                model_name(other) == model_name(record)
                and candidate.dataset == mine.dataset
                and canonical(candidate.settings) == canonical(mine.settings)
            ):
                return candidate
    return None


def first(
    mine: Replies, dense: Replies | None, references: Mapping[str, str], count: int = SHOWN
) -> list[Sample]:
    """The first items, ordered by id with numbers compared as numbers."""
    samples = []
    for item in sorted(mine.items, key=natural)[:count]:
        values = mine.items[item]
        beside = dense.items.get(item, {}).get("reply") if dense else None
        samples.append(
            Sample(
                item,
                str(values.get("reply", "")),
                None if beside is None else str(beside),
                references.get(item),
                {k: float(v) for k, v in values.items() if isinstance(v, float)},
            )
        )
    return samples


def _items(items: Any) -> dict[str, dict[str, Any]]:
    given = items if isinstance(items, list) else []
    return {str(item["id"]): item for item in given if isinstance(item, dict) and "id" in item}


def natural(item: str) -> list[tuple[int, str]]:
    """A sorting key that puts ``test_2`` before ``test_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", item)]
