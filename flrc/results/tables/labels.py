"""Labels of rows: the method, and how a run differs from its preset or from other runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.core.shipped import conf_folder
from flrc.results.records.record import METHOD_SLOTS, Record
from flrc.results.records.rows import flatten, plain
from flrc.results.records.store import model_name, requested_rate

NOT_METHOD = frozenset(
    {
        "method", "rate", "seed", "study", "scale", "experiment", "evaluation", "tracker", "paths",
        "hydra", "device", "placement", "workers", "force", "dry_run", "model.label", "model.save",
        "data.root",
    }
)  # fmt: skip
"""Configuration keys (and all below them) in which two runs of one row may differ.

The location of data is one of them; its fingerprint is a setting of the measurements.
"""

DENSE_KEYS = ("model.", "dtype", "threads")
"""Configuration keys in which two dense runs count as different."""

Presets = Mapping[str, Mapping[str, str]]
"""Method name -> slot -> component name."""


def presets() -> dict[str, dict[str, str]]:
    """The presets of the configuration."""
    return read_presets(conf_folder())


def read_presets(conf: Path) -> dict[str, dict[str, str]]:
    """The components of every preset of ``conf/method``, over the defaults of ``conf/config.yaml``.

    Returns:
        Nothing if there is no such folder; labels then come from the records only.
    """
    import yaml

    def slots(path: Path) -> dict[str, str]:
        defaults = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", [])
        named = {}
        for entry in defaults:
            for key, value in entry.items() if isinstance(entry, dict) else ():
                slot = str(key).removeprefix("override ").strip().strip("/").partition("@")[0]
                if slot in METHOD_SLOTS and isinstance(value, str):
                    named[slot] = value
        return named

    base = slots(conf / "config.yaml") if (conf / "config.yaml").is_file() else {}
    return {path.stem: base | slots(path) for path in sorted((conf / "method").glob("*.yaml"))}


def label_rows(records: Sequence[Record], presets: Presets) -> list[str]:
    """The row label of every record; equal labels at one model and rate differ in the seed only.

    A component that differs from the preset's is always named (``flra · sensitivity=weight``).
    If runs with one label still differ, the components in which they differ are added, then the
    configuration keys, and at last (other code or data, same configuration) the id.
    """
    labels = [_overridden(record, presets) for record in records]
    labels = _split(records, labels, lambda record: _components(record))
    labels = _split(records, labels, _configuration)
    return _split_repeats(records, labels)


def _components(record: Record) -> dict[str, Any]:
    if record.run["method"] == "dense":  # a dense run uses none of its components
        return {}
    components = record.run.get("components", {})
    unused = {"search"} if components.get("schedule") == "constant" else set()
    return {slot: components[slot] for slot in METHOD_SLOTS if slot in components.keys() - unused}


def _overridden(record: Record, presets: Presets) -> str:
    method = str(record.run["method"])
    preset = presets.get(method, {})
    parts = [
        f"{slot}={name}"
        for slot, name in _components(record).items()
        if slot in preset and name != preset[slot]
    ]
    return " · ".join([method, *parts])


def _configuration(record: Record) -> dict[str, Any]:
    flat = flatten(record.run.get("config", {}))
    if record.run["method"] == "dense":
        flat = {key: flat[key] for key in flat if key.startswith(DENSE_KEYS)}
    return {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_METHOD)
    }


def _split(records: Sequence[Record], labels: list[str], view: Any) -> list[str]:
    """Add to equal labels the keys of ``view`` in which their runs differ at one model and rate."""
    groups: dict[tuple[str, str, float], list[Record]] = defaultdict(list)
    for record, label in zip(records, labels, strict=True):
        groups[label, model_name(record), requested_rate(record)].append(record)
    varying: dict[str, dict[str, None]] = defaultdict(dict)
    for (label, _, _), group in groups.items():
        views = [view(record) for record in group]
        for key in dict.fromkeys(key for values in views for key in values):
            if len({canonical(values.get(key)) for values in views}) > 1:
                varying[label][key] = None
    split = []
    for record, label in zip(records, labels, strict=True):
        values = view(record)
        keys = [key for key in varying[label] if f" {key}=" not in label]
        # The name of a component implies the other keys of its slot.
        keys = [key for key in keys if not _follows(key, varying[label])]
        parts = [f"{key.removesuffix('.name')}={plain(values.get(key))}" for key in keys]
        split.append(" · ".join([label, *parts]))
    return split


def _follows(key: str, varying: Mapping[str, None]) -> bool:
    slot = key.partition(".")[0]
    return key != f"{slot}.name" and f"{slot}.name" in varying


def _split_repeats(records: Sequence[Record], labels: list[str]) -> list[str]:
    runs: dict[tuple[str, str, float, Any], set[str]] = defaultdict(set)
    keys = [
        (label, model_name(record), requested_rate(record), record.run.get("seed"))
        for record, label in zip(records, labels, strict=True)
    ]
    for key, record in zip(keys, records, strict=True):
        runs[key].add(str(record.run["id"]))
    repeated = {key[:3] for key, ids in runs.items() if len(ids) > 1}
    return [
        f"{label} · id={record.run['id']}" if key[:3] in repeated else label
        for key, label, record in zip(keys, labels, records, strict=True)
    ]
