"""A table of any runs: the default layout, with a row for each model, rate and method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.measurement import Measurement
from flrc.results.records.record import Record
from flrc.results.records.run_key import key_of
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.columns import (
    COUNTS,
    HEALING,
    REALISED,
    SCHEDULE,
    SEARCH,
    Column,
    is_sample,
    measurement_columns,
    rate_column,
    scheduled,
)
from flrc.results.tables.data_sets import data_sets
from flrc.results.tables.derived import counts
from flrc.results.tables.facts import Facts
from flrc.results.tables.grid import Grid
from flrc.results.tables.labels import Presets, label_rows
from flrc.results.tables.layout import Layout
from flrc.results.tables.notes import (
    BEST,
    DASH,
    DEFERRED,
    RATES,
    SAMPLE,
    SPREAD,
    failure,
    healing,
    healing_warnings,
    provenance,
    settings,
)
from flrc.results.tables.table import Key, Table
from flrc.results.tables.value import TableRun, Value, value_of

FACTS = ("model", "rate", "method")
"""Facts of a row: the model's label, the requested rate, and the row's label."""
COST_GROUPS = frozenset(column.group for column in (COUNTS[-1], *SEARCH, *HEALING))
"""Headings of the columns that say what a run took."""
RowKey = tuple[str, float, str]
"""The values of a row's facts."""


@dataclass(frozen=True)
class Notes:
    """Text under a table of runs.

    Attributes:
        missing: One line per column that lacks a cell, by the column's name.
        marks: What the signs in its cells mean, and why a column is missing.
        warnings: Runs that finished, but in which a part did not go well.
        general: How to read its numbers.
        settings: One line per set of columns that share settings.
        provenance: Versions, device, dtype, threads, calibration, commit.
        failed: One line per run that failed or did not finish.
    """

    missing: dict[str, str]
    marks: list[str]
    warnings: list[str]
    general: list[str]
    settings: list[str]
    provenance: list[str]
    failed: list[str]


class RunsTable(Table):
    """A table in the default layout: the columns that hold anything, and the notes below."""

    def __init__(
        self, records: Iterable[Record], presets: Presets | None = None, title: str = ""
    ) -> None:
        """The table of all finished runs; the notes name those that failed or did not finish.

        ``title`` names the settings that distinguish it from other tables of the same command.

        Raises:
            MixedSettings: If a column would mix settings.
            MixedRates: If a cell would mix rates.
            UserError: If no run has finished.
        """
        given = distinct_models({key_of(record): record for record in records}.values())
        finished = [record for record in given if record.run["status"] == "ok"]
        if not finished:
            raise UserError(
                "no run has finished, so there is no table",
                given=f"{len(given)} records: "
                + ", ".join(f"{r.run['id']} {r.run['status']}" for r in given),
                fix=f"{as_called('records')} show <id> says what went wrong",
            )
        measured = measurement_columns(finished)
        rows: dict[RowKey, list[TableRun]] = defaultdict(list)
        for record, label in zip(finished, label_rows(finished, presets or {}), strict=True):
            key = (model_name(record), requested_rate(record), label)
            facts = dict(zip(FACTS, key, strict=True))
            rows[key].append(TableRun(record, facts, _measurements(record, measured)))

        def find(asked: Facts, name: str) -> Value | None:
            return value_of(rows[asked["model"], asked["rate"], asked["method"]], asked, name)

        super().__init__(
            _layout(list(rows), several_seeds=any(len(row) > 1 for row in rows.values())),
            [run.facts for row in rows.values() for run in row],
            find,
        )
        self.title = title
        self.data_sets = data_sets(finished)
        self._runs = rows
        searched = any(record.results.get("search", {}).get("probes") for record in finished)
        columns = [REALISED, *measured, *COUNTS, *SCHEDULE, *(SEARCH if searched else ())]
        columns += HEALING
        # Every cell is computed here, so that one that mixes rates is reported before any output.
        values = {c.name: [self.value(row, c.name) for row in self.rows] for c in columns}
        self.columns = [c for c in columns if any(values[c.name])]
        self.notes = Notes(
            missing=self._missing(measured),
            marks=self._marks(finished),
            warnings=healing_warnings(finished),
            general=[RATES] * any(column.metric == "rate" for column in measured)
            + healing(finished)
            + [SAMPLE] * any(is_sample(column.name) for column in measured),
            settings=settings(measured),
            provenance=provenance([run.record for row in rows.values() for run in row]),
            failed=[failure(record) for record in given if record.run["status"] != "ok"],
        )

    @property
    def keys(self) -> list[RowKey]:
        """Model, requested rate and label of each row."""
        return [(str(model), float(str(rate)), str(method)) for model, rate, method in self.rows]

    @property
    def models(self) -> list[str]:
        """The models, in order."""
        return list(dict.fromkeys(model for model, _, _ in self.keys))

    @cached_property
    def text_grid(self) -> Grid:
        """The cells as text."""

        def footnote(asked: Facts, name: str) -> str:
            row = tuple(asked[fact] for fact in FACTS)
            return self.notes.missing.get(name, "") if self._lacks(row, name) else ""

        return self.grid(self.columns, footnote=footnote)

    @property
    def reading(self) -> list[str]:
        """How to read the table, the mark of its best cells included."""
        best = [f"Bold: {BEST}"] * self.text_grid.has_best
        return [*best, *self.notes.marks, *self.notes.general, *self.notes.warnings]

    def run_ids(self, row: Key) -> list[str]:
        """Ids of the runs of a row."""
        return [run.id for run in self._runs[row]]  # type: ignore[index]

    def _lacks(self, row: Key, name: str) -> bool:
        value = self.value(row, name)
        return (value.count if value else 0) < self.runs_in[row]

    def _missing(self, measured: Sequence[Column]) -> dict[str, str]:
        lines = {}
        for name in (column.name for column in measured if column.metric != "rate"):
            lacking = []
            for (model, rate, label), runs in self._runs.items():
                without = [run.id for run in runs if name not in run.measurements]
                if without:
                    where = f"{label} at rate {rate:g}" if label != "dense" else label
                    where += f" on {model}" if len(self.models) > 1 else ""
                    have = len(runs) - len(without)
                    some = f", {have} of {len(runs)} seeds measured" if have else ""
                    lacking.append(f"{where} ({', '.join(without)}{some})")
            if lacking:
                lines[name] = f"{name} is not measured for {'; '.join(lacking)}."
        return lines

    def _marks(self, finished: Sequence[Record]) -> list[str]:
        costs = [column.name for column in self.columns if column.group in COST_GROUPS]
        return [
            *[SPREAD] * (max(self.runs_in.values()) > 1),
            *[DASH] * any(self._lacks(row, name) for row in self.rows for name in costs),
            *[DEFERRED] * any(record.search_deferred for record in finished),
        ]


def _layout(keys: Sequence[RowKey], *, several_seeds: bool) -> Layout:
    """Rows by model and rate, dense first; models and seeds are labels if there are several."""
    several_models = len({model for model, _, _ in keys}) > 1
    methods = sorted((label for _, _, label in keys), key=lambda m: m.partition(" ·")[0] != "dense")
    rates = sorted({rate for _, rate, _ in keys})
    return Layout(
        caption="",
        place="",
        rows=list(FACTS),
        columns={},
        labels={"rate": {r: f"{r:g}" for r in rates}, "method": {m: m for m in methods}},
        headings=["model"] * several_models + ["method"] + ["n"] * several_seeds + ["rate"],
        item_errors=False,
    )


def _measurements(record: Record, columns: Sequence[Column]) -> dict[str, Measurement]:
    """The numbers of a record: what it measured, at which rates, and its counts."""
    units = {column.name: column.unit for column in columns}
    own = {m.name: replace(m, unit=units[m.name]) for m in record.measurements}
    rates: dict[str, Measurement] = {}
    for m in record.measurements:
        name = rate_column(m)
        if name in units and name not in own and (name not in rates or scheduled(m, record)):
            rates[name] = Measurement(name, m.rate, "rate", False, None, 1, m.settings, m.rate)
    return {**own, **rates, **counts(record)}
