"""The settings in which runs differ."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.core.shipped import conf_folder
from flrc.results.records.calibration_option import calibration_option
from flrc.results.records.record import UNNAMED, Record
from flrc.results.records.rows import flatten, plain

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
DIGEST_SHOWN = 8
"""Digits of a fingerprint that tell the listed runs apart."""


def method_settings(record: Record) -> dict[str, Any]:
    """The keys of a run's configuration that say how it compressed, and what."""
    flat = flatten(record.run.get("config", {}))
    if record.run["method"] == "dense":
        flat = {key: flat[key] for key in flat if key.startswith(DENSE_KEYS)}
    else:
        flat = {f"{slot}.name": name for slot, name in UNNAMED.items()} | flat
    return {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_METHOD)
    }


def varying(views: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which these differ, in order of appearance; a missing key counts as None."""
    keys = dict.fromkeys(key for values in views for key in values)
    return [key for key in keys if len({canonical(values.get(key)) for values in views}) > 1]


def follows(key: str, others: Mapping[str, None] | Sequence[str]) -> bool:
    """Whether a key belongs to a component whose name is among the others and implies it."""
    slot = key.partition(".")[0]
    return key != f"{slot}.name" and f"{slot}.name" in others


def differences(records: Sequence[Record]) -> list[list[str]]:
    """For each run ``key=value`` of the settings in which the runs of its method differ.

    Model, rate and seed are left out: they are columns of their own. A component is named without
    its settings where the runs use different ones.
    """
    views = [
        {key: value for key, value in method_settings(record).items() if not _of_model(key)}
        for record in records
    ]
    methods: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record, view in zip(records, views, strict=True):
        methods[str(record.run["method"])].append(view)
    shown = {method: varying(same) for method, same in methods.items()}
    lines = []
    for record, view in zip(records, views, strict=True):
        keys = shown[str(record.run["method"])]
        own = [key for key in keys if key in view and not follows(key, keys)]
        lines.append([as_override(key, view, _short) for key in own])
    return lines


def as_override(key: str, values: Mapping[str, Any], text: Callable[[Any], str] = plain) -> str:
    """``key=value`` as it is typed: a component by its name, a calibration by its option.

    Several options of the calibration are one component, ``text``, with other data sets.
    """
    name = values.get("calibration.name")
    if name is not None and key in ("calibration.name", "calibration.datasets"):
        datasets = values.get("calibration.datasets", ())
        option = calibration_option({"name": name, "datasets": datasets})
        if (conf_folder() / "calibration" / f"{option}.yaml").is_file():
            return f"calibration={option}"
    return f"{key.removesuffix('.name')}={text(values.get(key))}"


def _of_model(key: str) -> bool:
    return key.startswith("model.")


def _short(value: Any) -> str:
    text = plain(value)
    return text[:DIGEST_SHOWN] if re.fullmatch(r"[0-9a-f]{32,}", text) else text
