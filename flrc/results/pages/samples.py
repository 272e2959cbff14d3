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
"""In a run's folder: data set -> items, for records that are kept without their evaluations."""
SHOWN = 5

Runs = Sequence[tuple[RunFolder, Record]]


@dataclass(frozen=True)
class Replies:
    """What a run answered on one data set.

    Attributes:
        dataset: Its name.
        settings: Of the evaluation; empty where neither file nor record says.
        items: Item id -> ``reply`` and whatever else was kept of it.
    """

    dataset: str
    settings: dict[str, Any]
    items: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """One item.

    Attributes:
        item: Its id.
        reply: The run's.
        dense: The dense model's; None where there is none to show.
        reference: What a person wrote; None where the data is not at hand.
        scores: The reply's scores, by name.
    """

    item: str
    reply: str
    dense: str | None
    reference: str | None
    scores: dict[str, float]


def replies(folder: RunFolder, record: Record) -> list[Replies]:
    """What a run's folder holds: its evaluation's files, else ``samples.json``; nothing if neither.

    A damaged file counts as missing, with a warning.
    """
    found = []
    for path in sorted((folder.path / EVALUATIONS).glob("summarization.*.json")):
        values = folder.read_json(f"{EVALUATIONS}/{path.name}")
        if isinstance(values, dict):
            name = str(values.get("part", "?"))
            settings = values.get("settings") or {}
            found.append(Replies(name, settings, _items(values.get("items"))))
    if found:
        return found
    kept = folder.read_json(SAMPLES)
    settings_of = {dataset(m.name): m.settings for m in record.measurements}
    for name, items in kept.items() if isinstance(kept, dict) else ():
        found.append(Replies(name, settings_of.get(name, {}), _items(items)))
    return found


def dense_replies(
    mine: Replies, record: Record, dense: Sequence[tuple[Record, list[Replies]]]
) -> Replies | None:
    """The dense model's replies to the same data under the same settings.

    Args:
        mine: A run's replies.
        record: Its record.
        dense: The dense runs at hand, with theirs.
    """
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
    """The first items by id, numbers in it counted as numbers."""
    found = []
    for item in sorted(mine.items, key=natural)[:count]:
        values = mine.items[item]
        beside = dense.items.get(item, {}).get("reply") if dense else None
        found.append(
            Sample(
                item,
                str(values.get("reply", "")),
                None if beside is None else str(beside),
                references.get(item),
                {k: float(v) for k, v in values.items() if isinstance(v, float)},
            )
        )
    return found


def _items(items: Any) -> dict[str, dict[str, Any]]:
    given = items if isinstance(items, list) else []
    return {str(item["id"]): item for item in given if isinstance(item, dict) and "id" in item}


def natural(item: str) -> list[tuple[int, str]]:
    """A sorting key by which ``test_2`` comes before ``test_10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", item)]
