"""Records as one table: aligned frames of means, deviations and counts, and notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from flrc.errors import UserError
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables import notes as notes_module
from flrc.results.tables.columns import (
    COUNTS,
    REALISED,
    SEARCH,
    Column,
    measurement_columns,
    rate_column,
    scheduled,
)
from flrc.results.tables.labels import Presets, label_rows
from flrc.results.tables.notes import Notes

INDEX = ("model", "rate", "method")
CELL_RATE_TOLERANCE = 0.05
"""How far the rates behind one cell may lie apart: seeds spend a schedule a little differently."""


class MixedRates(UserError):
    """The seeds of one cell were measured at different rates."""


RowKey = tuple[str, float, str]
"""Model, requested rate, row label."""


@dataclass(frozen=True)
class Value:
    """One cell: mean and sample standard deviation over ``count`` seeds."""

    mean: float
    deviation: float
    count: int


@dataclass(frozen=True)
class Table:
    """A rendered table's content; all frames share rows (model, rate, method) and columns.

    Attributes:
        mean: Mean over the seeds; NaN where the value is NaN or missing, which ``count`` tells
            apart.
        deviation: Sample standard deviation (n - 1) over the seeds; NaN for less than two.
        stderr: Standard error over the items, where there is one seed and the evaluation gives one.
        count: Seeds behind a cell; 0 where it is missing.
        runs: Ids of the runs of each row, comma-separated.
        columns: What the columns are, in order.
        notes: What stands under the table.
    """

    mean: pd.DataFrame
    deviation: pd.DataFrame
    stderr: pd.DataFrame
    count: pd.DataFrame
    runs: pd.Series[str]
    columns: list[Column]
    notes: Notes

    def cell(self, key: RowKey, column: str) -> Value:
        """One cell by row (model, rate, method) and column name."""
        frames = (self.mean, self.deviation, self.count)
        mean, deviation, count = (cast("float", frame.loc[key, column]) for frame in frames)
        return Value(float(mean), float(deviation), int(count))

    @property
    def keys(self) -> list[RowKey]:
        """The rows, in order."""
        return [(str(model), float(rate), str(method)) for model, rate, method in self.mean.index]

    @property
    def models(self) -> list[str]:
        """The models, in order."""
        return list(dict.fromkeys(self.mean.index.get_level_values("model")))

    @property
    def seeds(self) -> pd.Series[int]:
        """Runs of each row."""
        return self.runs.map(lambda ids: len(ids.split(", ")))


def build(records: Iterable[Record], presets: Presets | None = None) -> Table:
    """The table of all finished runs; runs that failed or did not finish are named in the notes.

    Args:
        records: Any records; one that is given twice counts once.
        presets: The components of each method's preset, for the row labels.

    Raises:
        MixedSettings: If a column would mix settings.
        MixedRates: If a cell would mix rates.
        UserError: If no run has finished.
    """
    given = distinct_models({str(record.run["id"]): record for record in records}.values())
    finished = [record for record in given if record.run["status"] == "ok"]
    if not finished:
        raise UserError(
            "no run has finished, so there is no table",
            given=f"{len(given)} records: "
            + ", ".join(f"{r.run['id']} {r.run['status']}" for r in given),
            fix="python -m flrc.records show <id> says what went wrong",
        )
    measured = measurement_columns(finished)
    searched = any(record.results.get("search", {}).get("probes") for record in finished)
    columns = [REALISED, *measured, *COUNTS, *(SEARCH if searched else ())]
    rows: dict[tuple[str, float, str], list[Record]] = defaultdict(list)
    for record, label in zip(finished, label_rows(finished, presets or {}), strict=True):
        rows[model_name(record), requested_rate(record), label].append(record)
    methods = list(dict.fromkeys(label for _, _, label in rows))
    keys = sorted(rows, key=lambda k: (k[0], _not_dense(k[2]), k[1], methods.index(k[2])))
    index = pd.MultiIndex.from_tuples(keys, names=INDEX)
    frames = {
        what: pd.DataFrame(np.nan, index=index, columns=[c.name for c in columns], dtype=float)
        for what in ("mean", "deviation", "stderr", "count")
    }
    for key in keys:
        cells = _cells(key, rows[key])
        for column in columns:
            values, errors = cells.get(column.name, ([], []))
            frames["count"].loc[key, column.name] = len(values)
            with np.errstate(invalid="ignore"):  # the mean of inf and -inf is NaN, and is shown so
                if values:
                    frames["mean"].loc[key, column.name] = np.mean(values)
                if len(values) > 1:
                    frames["deviation"].loc[key, column.name] = np.std(values, ddof=1)
            if len(values) == 1 and errors[0] is not None:
                frames["stderr"].loc[key, column.name] = errors[0]
    return Table(
        mean=frames["mean"],
        deviation=frames["deviation"],
        stderr=frames["stderr"],
        count=frames["count"].astype(int),
        runs=pd.Series([", ".join(str(r.run["id"]) for r in rows[k]) for k in keys], index=index),
        columns=columns,
        notes=notes_module.collect(given, rows, measured, frames["count"]),
    )


def _not_dense(label: str) -> bool:
    return label != "dense" and not label.startswith("dense ·")


Cells = dict[str, tuple[list[float], list[float | None]]]


def _cells(key: tuple[str, float, str], records: Sequence[Record]) -> Cells:
    """Values and standard errors of a row's runs, by column."""
    cells: Cells = defaultdict(lambda: ([], []))
    rates: dict[str, list[float]] = defaultdict(list)

    def add(name: str, value: Any, stderr: float | None = None) -> None:
        if value is not None:
            cells[name][0].append(float(value))
            cells[name][1].append(stderr)

    for record in records:
        given = {m.name for m in record.measurements}
        derived: dict[str, float] = {}
        for m in record.measurements:
            add(m.name, m.value, m.stderr)
            rates[m.name].append(m.rate)
            name = rate_column(m)
            if name not in given and (name not in derived or scheduled(m, record)):
                derived[name] = m.rate
        for name, rate in derived.items():
            add(name, rate)
        for name, value in _counts(record).items():
            add(name, value)
    for name, found in rates.items():
        if max(found) - min(found) > CELL_RATE_TOLERANCE:
            model, rate, label = key
            raise MixedRates(
                f"{name} of {label} at rate {rate:g} on {model} was measured at different rates",
                given=", ".join(
                    f"{r.run['id']}: {value:g}" for r, value in zip(records, found, strict=False)
                ),
                allowed=f"rates that lie within {CELL_RATE_TOLERANCE} of each other",
                fix="name a narrower folder: these runs do not differ in the seed only",
            )
    return cells


def _counts(record: Record) -> dict[str, float | None]:
    parameters = record.results.get("parameters", {})
    dense = parameters.get("targets_dense")

    def share(name: str) -> float | None:
        value = parameters.get(name)
        return 100 * value / dense if dense and value is not None else None

    compress, evaluate = notes_module.seconds(record)
    search = record.results.get("search", {})
    return {
        "realised": record.results.get("rate", {}).get("realised"),
        "activated": share("targets_activated"),
        "stored": share("targets_stored"),
        "model_stored": parameters.get("model_stored"),
        "compress_seconds": compress,
        "evaluate_seconds": evaluate,
        "search_passes": search.get("forward_passes"),
        "search_seconds": search.get("seconds"),
    }
