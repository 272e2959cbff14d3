"""Lines under a table: settings, versions and devices, runs that failed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.records.record import Record
from flrc.results.records.rows import flatten, listed, plain
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.columns import Column

DIGEST_SHOWN = 12
"""Digits of a fingerprint that are enough to distinguish two data sets by eye."""

BEST = "best of its column among the methods at one rate (dense excluded)."
"""What the mark of a cell means."""

SAMPLE = (
    "Numbers on sample data (names that begin with sample_ or sotu_) come from the small texts "
    "shipped with the code; they are not benchmark numbers and not comparable with published ones."
)


def settings(measured: Sequence[Column], *, digests: bool = True) -> list[str]:
    """One line for each set of columns that share settings: the settings.

    Without ``digests``, those that are fingerprints of data, or versions, are left out.
    """
    shared: dict[str, list[Column]] = {}
    for column in measured:
        if column.settings:
            shared.setdefault(canonical(column.settings), []).append(column)
    lines = []
    for columns in shared.values():
        names = ", ".join(column.name for column in columns)
        shown = columns[0].settings
        if not digests:
            shown = {k: v for k, v in flatten(shown).items() if not _identifies(k, v)}
        lines.append(f"{names}: {listed(shown, abridged)}")
    return lines


def provenance(records: Sequence[Record]) -> list[str]:
    """Versions, commit, device, dtype, threads and calibration, with the number of runs of each."""

    def config(record: Record) -> str:
        group = record.run.get("config", {}).get("calibration")
        return listed(group, abridged) if isinstance(group, dict) else "?"

    def versions(record: Record) -> str:
        known = record.meta.get("versions") or {}
        return ", ".join(f"{name} {version}" for name, version in known.items()) or "?"

    compressed = [record for record in records if record.run["method"] != "dense"]
    lines = {
        "versions": [versions(record) for record in records],
        "commit": [commit(record) for record in records],
        "device": [str(record.meta.get("device", "?")) for record in records],
        "dtype": [str(record.meta.get("dtype", "?")) for record in records],
        "threads": [str(record.meta.get("threads", "?")) for record in records],
        "calibration": [config(record) for record in compressed],
    }
    return [f"{name}: {_tally(values)}" for name, values in lines.items() if values]


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


def failure(record: Record) -> str:
    """Which run did not finish, and why."""
    run = record.run
    where = (
        f"{run['method']} at rate {requested_rate(record):g} on {model_name(record)} ({run['id']})"
    )
    if run["status"] != "failed":
        return f"{where}: not finished ({run['status']})"
    return f"{where}: failed in {run.get('stage', '?')}: {run.get('error', '?')}"


def abridged(value: Any) -> str:
    """A value of a setting as text, fingerprints shortened."""
    text = plain(value)
    return text[:DIGEST_SHOWN] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _identifies(key: str, value: Any) -> bool:
    """Whether a setting is a fingerprint or a version: for comparison, not for reading."""
    version = key.rpartition(".")[2] in {"version", "rouge_score", "bert_score"}
    return version or re.fullmatch(r"[0-9a-f]{12,}", plain(value)) is not None
