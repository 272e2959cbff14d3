"""What one run measured under several settings: kept beside the latest, and shown as such."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.records.measurement import Measurement
from flrc.results.records.record import OTHER_SETTINGS, Record
from flrc.results.records.rows import flatten
from flrc.results.records.stage_kinds import evaluates


@dataclass(frozen=True)
class Measured:
    """What a record holds of one run.

    Attributes:
        latest: One measurement for each name.
        others: Measurements of the same names under other settings, the latest first.
    """

    latest: list[Measurement]
    others: list[Measurement] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Their part of a record's ``results``; without ``others``, if there are none."""
        values = {"measurements": [vars(m) for m in self.latest]}
        return values | ({OTHER_SETTINGS: [vars(m) for m in self.others]} if self.others else {})


def combined(measured: Sequence[Measurement], earlier: Record | None) -> Measured:
    """What a command measured, and what the record has of earlier commands.

    A measurement replaces an earlier one of its name and settings; one of its name under other
    settings stays.
    """
    if earlier is None:
        return Measured(list(measured))
    return _latest([*measured, *earlier.measurements, *earlier.other_settings])


def asked(record: Record, keys: Collection[str]) -> Record:
    """The record with only the measurements of these keys: a run may hold more.

    Where only earlier settings of a name are asked for, they take the place of the latest.
    """
    known = [*record.measurements, *record.other_settings]
    shown = _latest(m for m in known if m.key in keys)
    latest = {m.key for m in record.measurements}
    return _with(record, shown, timed=all(m.key in latest for m in shown.latest))


def by_settings(record: Record) -> list[Record]:
    """The record once for each of the settings under which it was measured, the latest first.

    Each has one measurement for every name: where a name was measured under fewer settings, the
    latest. How long evaluations took is known of the latest command alone.
    """
    layers: list[dict[str, Measurement]] = []
    for m in record.other_settings:
        free = [layer for layer in layers if m.name not in layer]
        if free:
            max(free, key=lambda layer: _agreement(m, layer))[m.name] = m
        else:
            layers.append({m.name: m})
    if not layers:
        return [record]
    latest = {m.name: m for m in record.measurements}
    whole = [Measured(list({**latest, **layer}.values())) for layer in layers]
    return [
        _with(record, Measured(record.measurements), timed=True),
        *(_with(record, measured, timed=False) for measured in whole),
    ]


def _latest(measured: Iterable[Measurement]) -> Measured:
    """Of each name the first, then the others; of each key the first alone."""
    first: dict[str, Measurement] = {}
    for m in measured:
        first.setdefault(m.key, m)
    latest: dict[str, Measurement] = {}
    for m in first.values():
        latest.setdefault(m.name, m)
    others = [m for m in first.values() if latest[m.name] is not m]
    return Measured(list(latest.values()), others)


def _agreement(measurement: Measurement, layer: Mapping[str, Measurement]) -> int:
    """How many settings a measurement shares with those of a layer."""
    own = {(key, canonical(value)) for key, value in flatten(measurement.settings).items()}
    others = [flatten(other.settings) for other in layer.values()]
    return sum((key, canonical(values[key])) in own for values in others for key in values)


def _with(record: Record, measured: Measured, *, timed: bool) -> Record:
    """The record with these measurements; unless ``timed``, without the time of evaluations."""
    results = {key: value for key, value in record.results.items() if key != OTHER_SETTINGS}
    meta = record.meta
    if not timed and "stages" in meta:
        kept = [stage for stage in meta["stages"] if not evaluates(str(stage["name"]))]
        meta = {**meta, "stages": kept}
    return dataclasses.replace(record, results=results | measured.to_json(), meta=meta)
