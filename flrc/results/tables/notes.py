"""Lines under a table: settings, versions and devices, runs that failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.records.healing import healing_of
from flrc.results.records.record import Record
from flrc.results.records.rows import listed, plain
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import MISSING

DIGEST_SHOWN = 12
"""Digits of a fingerprint that are enough to distinguish two data sets by eye."""

NAMING = frozenset({"dataset", "task"})
"""Settings that may repeat the name of a data set."""

BEST = "best of its column among the methods at one rate (dense excluded)."
"""What the mark of a cell means."""

SPREAD = "±: sample standard deviation over n seeds (n - 1)."
DASH = f"{MISSING}: nothing was done there, or a part of it was read from the cache."
"""What a dash means among times and costs; a footnote explains one among measurements."""
DEFERRED = (
    "What is stored is missing where the schedule has not been searched: a run that generates or "
    "saves the model searches it, and completes this record."
)
RATES = (
    "Columns <dataset>/rate: average rate over the forward steps of generation; the numbers on "
    "that data set were taken at it, all others at the realised rate."
)
SAMPLE = (
    "Numbers on sample data (names that begin with sample_ or sotu_) come from the small texts "
    "shipped with the code; they are not benchmark numbers and not comparable with published ones."
)


def settings(measured: Sequence[Column]) -> list[str]:
    """One line for each set of columns that share settings: the settings.

    A line is named after the data sets whose columns all have these settings, else after the
    columns. It repeats neither that name nor settings that have a line of their own: a mean over
    tasks names the tasks.
    """
    columns_of: dict[str, list[Column]] = {}
    for column in measured:
        if column.settings:
            columns_of.setdefault(canonical(column.settings), []).append(column)
    names = {key: _names(columns, measured) for key, columns in columns_of.items()}
    return [
        f"{', '.join(names[key])}: {listed(_new(columns[0].settings, names, key), abridged)}"
        for key, columns in columns_of.items()
    ]


def _names(columns: Sequence[Column], measured: Sequence[Column]) -> list[str]:
    """The data sets whose columns these are; the column's name where others of its set differ."""
    others = {column.group for column in measured if column not in columns}
    return list(dict.fromkeys(c.name if c.group in others else c.group for c in columns))


def _new(values: Mapping[str, Any], names: Mapping[str, Sequence[str]], own: str) -> dict[str, Any]:
    """The settings that neither the line's name nor another line states."""
    new: dict[str, Any] = {}
    for key, value in values.items():
        parts = [canonical(part) for part in value.values()] if isinstance(value, dict) else []
        if parts and all(part in names for part in parts):
            new[key] = "+".join(name for part in parts for name in names[part])
        elif key not in NAMING or [value] != names[own]:
            new[key] = value
    return new


def provenance(records: Sequence[Record]) -> list[str]:
    """Versions, commit, device, dtype, threads and calibration; the number of runs of each value.

    What all runs have in common stands on one line, but for the long lists.
    """

    def config(record: Record) -> str:
        group = record.run.get("config", {}).get("calibration")
        return listed(group, abridged) if isinstance(group, dict) else "?"

    def versions(record: Record) -> str:
        known = record.meta.get("versions") or {}
        return ", ".join(f"{name} {version}" for name, version in known.items()) or "?"

    compressed = [record for record in records if record.run["method"] != "dense"]
    machine = {
        "commit": [commit(record) for record in records],
        "device": [str(record.meta.get("device", "?")) for record in records],
        "dtype": [str(record.meta.get("dtype", "?")) for record in records],
        "threads": [str(record.meta.get("threads", "?")) for record in records],
    }
    common = [f"{name}: {values[0]}" for name, values in machine.items() if len(set(values)) == 1]
    varied = {name: values for name, values in machine.items() if len(set(values)) > 1}
    lists = {"versions": list(map(versions, records)), "calibration": list(map(config, compressed))}
    lines = [f"{name}: {_tally(values)}" for name, values in (varied | lists).items() if values]
    return [", ".join(common), *lines] if common else lines


def commit(record: Record, digits: int = 12) -> str:
    """The commit that a run was made at, and whether the code was modified."""
    git = record.meta.get("git") or {}
    return str(git.get("commit") or "?")[:digits] + (" (modified)" if git.get("dirty") else "")


def _tally(values: Iterable[str]) -> str:
    """The value if all are equal, else each value with its number of runs."""
    counted = Counter(values)
    if len(counted) == 1:
        return next(iter(counted))
    return "; ".join(f"{value} ({n} run{'s' * (n > 1)})" for value, n in counted.most_common())


def healing(records: Sequence[Record]) -> list[str]:
    """How the columns of healing are to be read; empty if no run was healed."""
    healed = list(filter(None, map(healing_of, records)))
    if not healed:
        return []
    means = []
    if any(one.whole for one in healed):
        means.append("KL is the divergence to the dense model's next tokens, in nats per token")
    if any(one.blocks for one in healed):
        means.append(
            "the block error is the error of a block's outputs as a share of what the dense block "
            "adds, a mean over blocks"
        )
    used = _tally(one.given for one in healed)
    return [
        f"Healing: {'; '.join(means)}; of the untuned state and of the one that was kept, on "
        "calibration sequences that neither statistics nor tuning saw. Time: of steps and checks, "
        f"of all attempts together. {used}."
    ]


def healing_warnings(records: Sequence[Record]) -> list[str]:
    """Runs of which a tuning diverged, or the untuned state was kept."""
    return [
        f"Healing of {_run(record)}: {'; '.join(healed.warnings)}."
        for record in records
        if (healed := healing_of(record)) is not None and healed.warnings
    ]


def failure(record: Record) -> str:
    """Which run did not finish, and why."""
    run, where = record.run, _run(record)
    if run["status"] != "failed":
        return f"{where}: not finished ({run['status']})"
    return f"{where}: failed in {run.get('stage', '?')}: {run.get('error', '?')}"


def _run(record: Record) -> str:
    run = record.run
    return (
        f"{run['method']} at rate {requested_rate(record):g} on {model_name(record)} ({run['id']})"
    )


def abridged(value: Any) -> str:
    """A value of a setting as text, fingerprints shortened."""
    text = plain(value)
    return text[:DIGEST_SHOWN] if re.fullmatch(r"[0-9a-f]{32,}", text) else text
