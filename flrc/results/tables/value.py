"""The value of a cell: the runs that agree in all facts of its row and column, over their seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.results.records.measurement import Measurement
from flrc.results.records.neutral import is_neutral
from flrc.results.records.paired import Items, items_of
from flrc.results.records.record import Record
from flrc.results.records.run_key import RunKey, key_of
from flrc.results.records.store import RunFolder
from flrc.results.tables.facts import Facts, matches

RATE_TOLERANCE = 0.05
"""How far apart the rates within one cell may be: seeds spend a schedule slightly differently."""


class MixedModels(UserError):
    """Two models share a label or a cell."""


class MixedRates(UserError):
    """The runs of one cell were measured at different rates."""


@dataclass(frozen=True)
class Value:
    """The value of one cell.

    Attributes:
        mean: Mean over the seeds; NaN or infinite where one of them is.
        deviation: Sample standard deviation (n - 1) over the seeds; None for a single one.
        stderr: Standard error over the items of a single run, if the evaluation reports one.
        count: Number of seeds.
        rate: Rate at which it was measured, mean over the seeds.
        runs: Keys of the runs.
        unit: Unit of the mean.
        higher_is_better: Direction; None if neither direction is better.
    """

    mean: float
    deviation: float | None
    stderr: float | None
    count: int
    rate: float
    runs: list[RunKey]
    unit: str
    higher_is_better: bool | None

    @property
    def error(self) -> float | None:
        """Standard error of the mean: over the seeds, or over the items of a single run."""
        if self.deviation is not None:
            return self.deviation / math.sqrt(self.count)
        return self.stderr


@dataclass(frozen=True)
class TableRun:
    """A finished run as a table reads it.

    Attributes:
        facts: What decides its row and its group of columns.
        measurements: By name, including those derived from the record.
        folder: Where its items are stored, for paired tests; None if they are not available.
    """

    record: Record
    facts: Facts
    measurements: Mapping[str, Measurement]
    folder: RunFolder | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.record.run["id"])

    @property
    def key(self) -> RunKey:
        """What tells it from other runs."""
        return key_of(self.record)

    @cached_property
    def items(self) -> Items:
        """Its items; empty if they are not available."""
        return items_of(self.folder, self.record) if self.folder is not None else {}


def value_of(runs: Sequence[TableRun], asked: Facts, name: str) -> Value | None:
    """The value of all runs with these facts; None if none of them measured ``name``.

    Raises:
        UserError: If two of the runs have the same seed.
        MixedModels: If they are runs of different models.
        MixedRates: If their rates are further apart than ``RATE_TOLERANCE``.
    """
    chosen = [run for run in runs if matches(run.facts, asked) and name in run.measurements]
    if not chosen:
        return None
    _check_only_seeds(chosen, asked, name)
    measured = [run.measurements[name] for run in chosen]
    values = [m.value for m in measured]
    with np.errstate(invalid="ignore"):  # the mean of inf and -inf is NaN, and shown as NaN
        return Value(
            mean=float(np.mean(values)),
            deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
            stderr=measured[0].stderr if len(values) == 1 else None,
            count=len(values),
            rate=float(np.mean([m.rate for m in measured])),
            runs=[run.key for run in chosen],
            unit=measured[0].unit,
            higher_is_better=None if is_neutral(name) else measured[0].higher_is_better,
        )


def _check_only_seeds(chosen: Sequence[TableRun], asked: Facts, name: str) -> None:
    where = ", ".join(f"{fact} {value}" for fact, value in asked.items())
    seeds = [run.record.run.get("seed") for run in chosen]
    rates = [run.measurements[name].rate for run in chosen]
    ids = ", ".join(dict.fromkeys(run.id for run in chosen))
    if len(set(seeds)) < len(seeds):
        raise UserError(
            f"two runs with the same seed fall into one cell ({where}; {name})",
            given=ids,
            allowed="runs that differ only in the seed",
            fix="add the fact in which they differ to the table's rows, or keep one of them",
        )
    if len({str(run.record.meta.get("model_revision")) for run in chosen}) > 1:
        raise MixedModels(
            f"one cell would mix models ({where}; {name})",
            given=ids,
            allowed="runs of one model",
            fix="add the model to the table's rows",
        )
    if max(rates) - min(rates) > RATE_TOLERANCE:
        first, last = (rates.index(rate) for rate in (min(rates), max(rates)))
        pair = f"{chosen[first].id} {chosen[last].id}"
        raise MixedRates(
            f"the runs of one cell were measured at different rates ({where}; {name})",
            given=", ".join(
                f"{run.id}: {rate:.4g}" for run, rate in zip(chosen, rates, strict=True)
            ),
            allowed=f"rates within {RATE_TOLERANCE} of each other",
            fix=f"{as_called('records')} diff {pair} shows more than the seed",
        )
