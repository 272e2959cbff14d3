"""Labels of rows: the method, and how a run differs from its preset or from other runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flrc.core.shipped import conf_folder
from flrc.results.records.differences import as_override, follows, method_settings, varying
from flrc.results.records.record import METHOD_SLOTS, Record
from flrc.results.records.store import model_name, requested_rate

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
    labels = _split(records, labels, method_settings)
    return _split_repeats(records, labels)


def _components(record: Record) -> dict[str, Any]:
    if record.run["method"] == "dense":  # a dense run uses none of its components
        return {}
    components = record.components
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


def _split(records: Sequence[Record], labels: list[str], view: Any) -> list[str]:
    """Add to equal labels the keys of ``view`` in which their runs differ at one model and rate."""
    groups: dict[tuple[str, str, float], list[Record]] = defaultdict(list)
    for record, label in zip(records, labels, strict=True):
        groups[label, model_name(record), requested_rate(record)].append(record)
    different: dict[str, dict[str, None]] = defaultdict(dict)
    for (label, _, _), group in groups.items():
        views = [view(record) for record in group]
        different[label] |= dict.fromkeys(varying(views))
    split = []
    for record, label in zip(records, labels, strict=True):
        values = view(record)
        keys = [key for key in different[label] if f" {key}=" not in label]
        # The name of a component implies the other keys of its slot.
        keys = [key for key in keys if not follows(key, different[label])]
        parts = [as_override(key, values) for key in keys]
        split.append(" · ".join([label, *parts]))
    return split


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
