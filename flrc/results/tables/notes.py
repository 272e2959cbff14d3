"""What stands under a table: settings, versions, what is missing, what failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flrc.core.jsonfile import canonical
from flrc.results.records.record import Record
from flrc.results.records.show import flatten
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.columns import Column, is_sample

COMPRESSION = frozenset(
    {
        "statistics",
        "output gradients",
        "decomposition",
        "sensitivity",
        "allocation",
        "refinement",
        "surgery",
        "quantization",
    }
)
"""Stages that make the compressed model."""
PREPARATION = frozenset({"preflight", "load", "dense replies"})
"""Stages that neither compress nor measure; every stage beside these is a part of an evaluation."""

DIGEST_SHOWN = 12
"""Digits of a fingerprint that are enough to tell two data sets apart by eye."""

BEST = "best of its column among the methods at one rate (dense excluded)."
"""What the renderers' mark of a cell means."""

SAMPLE = (
    "Numbers on sample data (names that begin with sample_ or sotu_) come from the small texts "
    "shipped with the code; they are not benchmark numbers and compare with no published table."
)


@dataclass(frozen=True)
class Notes:
    """Text under a table.

    Attributes:
        missing: One line per column that lacks a cell, by the column's name.
        general: How to read the table.
        settings: One line per set of columns that share settings: what produced them.
        provenance: Versions, device, dtype, threads, calibration, commit.
        failed: One line per run that failed or did not finish.
    """

    missing: dict[str, str]
    general: list[str]
    settings: list[str]
    provenance: list[str]
    failed: list[str]


Rows = Mapping[tuple[str, float, str], Sequence[Record]]


def collect(
    records: Sequence[Record], rows: Rows, measured: Sequence[Column], count: pd.DataFrame
) -> Notes:
    """All notes of a table.

    Args:
        records: Every record that was given, failed ones too.
        rows: The finished ones by row.
        measured: The columns that hold measurements.
        count: Seeds behind each cell.
    """
    finished = [record for row in rows.values() for record in row]
    general = []
    if any(len(row) > 1 for row in rows.values()):
        general.append("±: sample standard deviation over n seeds (n - 1).")
    if any(column.metric == "rate" for column in measured):
        general.append(
            "Columns <dataset>/rate: average rate over the forward steps of generation; the "
            "numbers on that data set were taken at it, all others at the realised rate."
        )
    if any(None in seconds(record) for record in finished if record.meta.get("stages")):
        general.append(
            "Seconds are missing where there was nothing to do, or where a part was read from disk."
        )
    if any(is_sample(column.name) for column in measured):
        general.append(SAMPLE)
    return Notes(
        missing=_missing(rows, measured, count),
        general=general,
        settings=settings(measured),
        provenance=provenance(finished),
        failed=[_failure(record) for record in records if record.run["status"] != "ok"],
    )


def seconds(record: Record) -> tuple[float | None, float | None]:
    """Seconds of compressing and of evaluating; None where nothing was done.

    None also where a part was read from disk: the run then does not know how long the whole takes.
    """
    stages = record.meta.get("stages", [])
    compress = [stage for stage in stages if stage["name"] in COMPRESSION]
    evaluate = [stage for stage in stages if stage["name"] not in COMPRESSION | PREPARATION]
    return _total(compress), _total(evaluate)


def _total(stages: Sequence[Mapping[str, Any]]) -> float | None:
    if not stages or any(stage["cached"] for stage in stages):
        return None
    return sum(float(stage["seconds"]) for stage in stages)


def _missing(rows: Rows, measured: Sequence[Column], count: pd.DataFrame) -> dict[str, str]:
    lines = {}
    for column in measured:
        lacking = []
        for key, row in rows.items():
            have = int(count.loc[key, column.name])  # type: ignore[arg-type]
            if have < len(row):
                model, rate, label = key
                ids = ", ".join(
                    str(record.run["id"])
                    for record in row
                    if column.name not in {m.name for m in record.measurements}
                )
                where = f"{label} at rate {rate:g}" if label != "dense" else label
                where += f" on {model}" if len({m for m, _, _ in rows}) > 1 else ""
                seeds = f", {have} of {len(row)} seeds measured" if have else ""
                lacking.append(f"{where} ({ids}{seeds})")
        if lacking and column.metric != "rate":
            lines[column.name] = f"{column.name} is not measured for {'; '.join(lacking)}."
    return lines


def settings(measured: Sequence[Column]) -> list[str]:
    """One line per set of columns that share settings: what produced them."""
    shared: dict[str, list[Column]] = {}
    for column in measured:
        if column.settings:
            shared.setdefault(canonical(column.settings), []).append(column)
    lines = []
    for columns in shared.values():
        names = ", ".join(column.name for column in columns)
        values = flatten(columns[0].settings)
        lines.append(f"{names}: {', '.join(f'{k}={_plain(v)}' for k, v in values.items())}")
    return lines


def provenance(records: Sequence[Record]) -> list[str]:
    """Versions, commit, device, dtype, threads and calibration, each with the runs behind it."""

    def config(record: Record) -> str:
        group = record.run.get("config", {}).get("calibration")
        if not isinstance(group, dict):
            return "?"
        return ", ".join(f"{key}={_plain(value)}" for key, value in flatten(group).items())

    def versions(record: Record) -> str:
        found = record.meta.get("versions") or {}
        return ", ".join(f"{name} {version}" for name, version in found.items()) or "?"

    def commit(record: Record) -> str:
        git = record.meta.get("git") or {}
        return str(git.get("commit") or "?")[:12] + (" (modified)" if git.get("dirty") else "")

    compressed = [record for record in records if record.run["method"] != "dense"]
    lines = {
        "versions": [versions(record) for record in records],
        "commit": [commit(record) for record in records],
        "device": [str(record.meta.get("device", "?")) for record in records],
        "dtype": [str(record.meta.get("dtype", "?")) for record in records],
        "threads": [str(record.meta.get("threads", "?")) for record in records],
        "calibration": [config(record) for record in compressed],
    }
    return [f"{what}: {_tally(values)}" for what, values in lines.items() if values]


def _tally(values: Iterable[str]) -> str:
    """The one value, or all of them with the number of runs behind each."""
    counted = Counter(values)
    if len(counted) == 1:
        return next(iter(counted))
    return "; ".join(f"{value} ({n} run{'s' * (n > 1)})" for value, n in counted.most_common())


def _failure(record: Record) -> str:
    run = record.run
    where = (
        f"{run['method']} at rate {requested_rate(record):g} on {model_name(record)} ({run['id']})"
    )
    if run["status"] != "failed":
        return f"{where}: not finished ({run['status']})"
    return f"{where}: failed in {run.get('stage', '?')}: {run.get('error', '?')}"


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return text[:DIGEST_SHOWN] if re.fullmatch(r"[0-9a-f]{32,}", text) else text
