"""On what the numbers of a table were measured: data sets, their items, how the rate was spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flrc.results.records.record import Record
from flrc.results.records.rows import listed
from flrc.results.tables.columns import dataset, is_sample, scheduled

ITEMS = "{items}"
"""Stands for a number of items."""
IN_FILES = frozenset({"version", "torch", "data"})
"""Settings that identify a measurement but say nothing to a reader."""


@dataclass(frozen=True)
class DataSet:
    """One data set of a table.

    Attributes:
        settings: How it was measured.
        items: The smallest and the largest number of items behind a value.
        scheduled: Whether a number on it was taken at another rate than the realised one.
    """

    name: str
    settings: Mapping[str, Any]
    items: tuple[int, int]
    scheduled: bool

    @property
    def is_sample(self) -> bool:
        """Whether it is a text that is shipped with the code."""
        return is_sample(self.name)

    @property
    def split(self) -> str:
        """Which part of the data set; empty if it has none."""
        return str(self.settings.get("split", ""))


def data_sets(records: Iterable[Record]) -> list[DataSet]:
    """The data sets on which these runs were measured, in order of appearance."""
    found: dict[str, DataSet] = {}
    for record in records:
        for m in record.measurements:
            name = dataset(m.name)
            known = found.get(name, DataSet(name, m.settings, (m.count, m.count), False))
            items = (min(known.items[0], m.count), max(known.items[1], m.count))
            spent = known.scheduled or scheduled(m, record)
            found[name] = DataSet(name, known.settings, items, spent)
    return list(found.values())


def summarised(sets: Sequence[DataSet], names: int) -> str:
    """How much of which data sets was measured; those that are alike in that stand together.

    Args:
        sets: The data sets.
        names: How many to name of those that stand together; they are counted where there are more.
    """
    alike: dict[str, list[DataSet]] = {}
    for data in sets:
        alike.setdefault(_amount(data.settings), []).append(data)
    return "; ".join(_described(amount, group, names) for amount, group in alike.items())


def _amount(settings: Mapping[str, Any]) -> str:
    """How much is measured, the same for data sets that are alike; ``ITEMS`` is their number."""
    if "length" in settings:
        return f"{settings.get('windows', ITEMS)} x {settings['length']} tokens"
    if "tasks" in settings:
        return f"mean over {len(settings['tasks'])} tasks, {ITEMS} items"
    if "split" in settings:
        return f"{ITEMS} items"
    return listed({key: value for key, value in settings.items() if key not in IN_FILES})


def _described(amount: str, group: Sequence[DataSet], names: int) -> str:
    """``4 x 2048 tokens each of a (test), b (validation)``, or ``decode (batch=1, ...)``."""
    low, high = min(data.items[0] for data in group), max(data.items[1] for data in group)
    counted = amount.replace(ITEMS, f"{low}" if low == high else f"{low} to {high}")
    named = _named(group, names)
    each = " each" if len(group) > 1 else ""
    part = "tasks" not in group[0].settings and group[0].settings.keys() & {"length", "split"}
    return f"{counted}{each} of {named}" if part else f"{named} ({counted})"


def _named(group: Sequence[DataSet], names: int) -> str:
    """``a, b (test), c (validation)``, or ``57 data sets (test, validation)``."""
    by_split: dict[str, list[str]] = {}
    for data in group:
        by_split.setdefault(data.split, []).append(data.name)
    if len(group) > names:
        splits = ", ".join(filter(None, by_split))
        return f"{len(group)} data sets" + (f" ({splits})" if splits else "")
    return ", ".join(
        ", ".join(of_split) + (f" ({split})" if split else "")
        for split, of_split in by_split.items()
    )
