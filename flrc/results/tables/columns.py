"""The columns of a table, and the rule that all numbers of a column are comparable."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.errors import UserError
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.headline import importance
from flrc.results.records.measurement import Measurement
from flrc.results.records.neutral import RATES, is_neutral
from flrc.results.records.other_settings import by_settings
from flrc.results.records.record import Record
from flrc.results.records.rows import flatten
from flrc.results.records.store import model_name

SCHEDULED_TOLERANCE = 1e-3
"""A number whose rate is further than this from the constant plan's was taken under a schedule."""
MODEL_SETTINGS = ("tokenizer", "chat_template")
"""Settings that belong to the model: compared only between runs of one model."""


class MixedSettings(UserError):
    """A column would hold numbers that were measured in different ways."""

    def __init__(self, column: str, keys: list[str], runs: list[str], values: list[str]) -> None:
        """Name column, keys and runs; ``values`` are the differing settings of each run."""
        self.column = column
        self.keys = keys
        self.runs = runs
        shown = "; ".join(f"{run}: {value}" for run, value in zip(runs, values, strict=True))
        super().__init__(
            f"{column} was measured under different settings ({', '.join(keys)})",
            given=shown,
            allowed="one value of every setting per column",
            fix="run the same command again, with one value, for all of them",
        )


@dataclass(frozen=True)
class Column:
    """One column: the name of its measurement, heading, and what defines its numbers.

    Attributes:
        group: First line of the heading: the data set, or what is counted.
        metric: Second line: the metric.
        unit: Unit in the heading; empty if the metric names it.
        higher_is_better: Direction; None if neither direction is better.
        settings: Empty for columns that are not measurements.
    """

    name: str
    group: str
    metric: str
    unit: str
    higher_is_better: bool | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def arrow(self) -> str:
        """``↑`` or ``↓``; empty if neither direction is better."""
        return {None: "", True: "↑", False: "↓"}[self.higher_is_better]

    @property
    def title(self) -> str:
        """The heading on one line, unit and direction included."""
        group = "" if self.group == "rate" else self.group
        unit = f"({self.unit})" if self.unit not in {"", self.metric, "rate"} else ""
        return " ".join(part for part in (group, self.metric, unit, self.arrow) if part)


REALISED = Column("realised", "rate", "realised", "rate")
COUNTS = (
    Column("activated", "targets", "activated", "% of dense"),
    Column("stored", "targets", "stored", "% of dense"),
    Column("model_stored", "model", "stored", "parameters"),
    Column("model_bytes", "model", "stored", "bytes"),
    Column("compress_seconds", "time", "compress", "s"),
    Column("evaluate_seconds", "time", "evaluate", "s"),
)
"""Columns of every table of runs, beside the measurements."""
SEARCH = (
    Column("search_passes", "search", "forward passes", ""),
    Column("search_seconds", "search", "time", "s"),
)
"""Cost of measuring truncated models; in tables in which some method did so."""
SCHEDULE = (Column("schedule_seconds", "time", "schedule", "s"),)
"""Time of the search for a schedule; in tables in which some run searched."""
HEALING = (
    Column("healing_block_steps", "healing", "block steps", "steps"),
    Column("healing_block_error_before", "healing", "block error, before", "%"),
    Column("healing_block_error", "healing", "block error", "%"),
    Column("healing_steps", "healing", "steps", "steps"),
    Column("healing_kl_before", "healing", "KL, before", "nats"),
    Column("healing_kl", "healing", "KL", "nats"),
    Column("healing_seconds", "healing", "time", "s"),
)
"""What tuning the factors took and brought; in tables in which some run was healed."""


def measurement_columns(records: Sequence[Record]) -> list[Column]:
    """One column per measurement name; data sets in order of appearance, headline metrics first.

    A data set that was measured under a schedule has a column ``<dataset>/rate``, reported by its
    evaluation or else taken from the measurements themselves.

    Raises:
        MixedSettings: If a name was measured under different settings.
    """
    check_settings(records)
    columns: dict[str, Column] = {}
    for record in records:
        for m in record.measurements:
            columns.setdefault(m.name, _column(m))
    for record in records:
        for m in record.measurements:
            name = rate_column(m)
            if scheduled(m, record) and name not in columns:
                columns[name] = Column(name, dataset(m.name), "rate", "rate", None, m.settings)
    datasets = list(dict.fromkeys(column.group for column in columns.values()))
    return sorted(columns.values(), key=lambda c: (datasets.index(c.group), *_order(c.metric)))


def check_settings(records: Iterable[Record]) -> None:
    """Raise MixedSettings if a name was measured under different settings, or in another unit."""
    seen = _Settings()
    for record in records:
        seen.add(record)


class _Settings:
    """The settings under which each name was measured, in the records seen so far."""

    def __init__(self) -> None:
        # Measurement and scope (empty, or the model) -> first run, settings and their text.
        self._first: dict[tuple[str, str], tuple[str, dict[str, Any], str]] = {}
        self._runs = 0
        self._mixed = False

    def agree(self, record: Record) -> bool:
        """Add a record unless its settings differ; nothing agrees with one that mixes settings."""
        if self._mixed:
            return False
        try:
            self.add(record)
        except MixedSettings:
            self._mixed = not self._runs
            return False
        return True

    def add(self, record: Record) -> None:
        """Add a record; raises MixedSettings, and adds nothing, if its settings differ."""
        new: dict[tuple[str, str], tuple[str, dict[str, Any], str]] = {}
        run_id, model = str(record.run["id"]), model_name(record)
        for m in record.measurements:
            whole = flatten(m.settings) | {"unit": m.unit, "higher_is_better": m.higher_is_better}
            common = {key: value for key, value in whole.items() if not _of_model(key)}
            for scope, values in (("", common), (model, whole)):
                key, entry = (m.name, scope), (run_id, values, canonical(values))
                first = self._first.get(key) or new.setdefault(key, entry)
                if first[2] != entry[2]:
                    _refuse(m.name, first, entry)
        self._first |= new
        self._runs += 1


def _refuse(
    name: str, first: tuple[str, dict[str, Any], str], second: tuple[str, dict[str, Any], str]
) -> None:
    """Raise MixedSettings if any setting differs; one that is None may be missing elsewhere."""
    sides = (first[1], second[1])
    keys = sorted(
        key
        for key in sides[0].keys() | sides[1].keys()
        if canonical(sides[0].get(key)) != canonical(sides[1].get(key))
    )
    if keys:
        shown = [", ".join(f"{key}={canonical(side.get(key))}" for key in keys) for side in sides]
        raise MixedSettings(name, keys, [first[0], second[0]], shown)


def settings_groups(records: Iterable[Record]) -> list[list[Record]]:
    """Split the finished runs so that no group mixes settings; each joins the first that agrees.

    A run that was measured under several settings is in a group for each of them. Models that share
    a label get distinct labels, the same in all groups.
    """
    groups: list[tuple[_Settings, list[Record]]] = []
    finished = (record for record in records if record.run["status"] == "ok")
    for record in distinct_models(itertools.chain.from_iterable(map(by_settings, finished))):
        for seen, group in groups:
            if seen.agree(record):
                group.append(record)
                break
        else:
            groups.append((_Settings(), [record]))
            groups[-1][0].agree(record)
    return [group for _, group in groups]


def scheduled(measurement: Measurement, record: Record) -> bool:
    """Whether the number was taken at another rate than the constant plan's."""
    realised = record.results.get("rate", {}).get("realised")
    return realised is not None and abs(measurement.rate - realised) > SCHEDULED_TOLERANCE


def dataset(name: str) -> str:
    """The part of ``<dataset>/<metric>`` before the metric."""
    return name.rpartition("/")[0] or name


def rate_column(measurement: Measurement) -> str:
    """The name of the column that holds the rate at which the data set was measured."""
    return f"{dataset(measurement.name)}/rate"


def is_sample(name: str) -> bool:
    """Whether a measurement ran on the text that is shipped with the code."""
    return re.match(r"(sample|sotu)_", name) is not None


def _column(m: Measurement) -> Column:
    metric = m.name.rpartition("/")[2]
    unit = "rate" if metric in RATES else m.unit
    better = None if is_neutral(m.name) else m.higher_is_better
    return Column(m.name, dataset(m.name), metric, unit, better, m.settings)


def _order(metric: str) -> tuple[int, bool]:
    return (importance(metric), metric == "rate")


def _of_model(key: str) -> bool:
    return key.startswith(MODEL_SETTINGS)
