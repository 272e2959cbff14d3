"""What one run measured under several settings: kept beside the latest, and shown as such."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.records.measurement import Measurement
from flrc.results.records.record import OTHER_SETTINGS, Record
from flrc.results.records.rows import flatten
from flrc.results.records.stage_kinds import evaluates

OF_ONE_NAME = frozenset(
    {"dataset", "split", "data", "task", "task_version", "definition", "metric"}
)
"""Settings that say what is measured; measurements of different names differ in them anyway."""
OF_EVERY_EVALUATION = frozenset({"version", "limit", "tokenizer", "chat_template"})
"""Settings that do not tell evaluations apart: each may have them, with values of its own."""
NULL = canonical(None)


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

    None of them has measurements of one evaluation under different settings, as far as commands
    varied them. Each has the latest measurement of every name that agrees with its others, so it
    may lack a name. How long evaluations took is known of the latest command alone.
    """
    if not record.other_settings:
        return [record]
    known = [*record.measurements, *record.other_settings]
    varied = _Varied(known)
    layers: list[list[Measurement]] = []
    for m in known:
        free = [layer for layer in layers if varied.fits(m, layer)]
        if free:
            max(free, key=lambda layer: _agreement(m, layer)).append(m)
        else:
            layers.append([m])
    for layer in layers:
        for m in known:
            if varied.fits(m, layer):
                layer.append(m)
    order = [m.name for m in record.measurements]
    return [
        _with(
            record,
            Measured(sorted(layer, key=lambda m: order.index(m.name))),
            timed=layer is layers[0],
        )
        for layer in layers
    ]


class _Varied:
    """The settings that commands varied, and the values that each measurement has of them."""

    def __init__(self, known: Sequence[Measurement]) -> None:
        """``known`` are all measurements of a run."""
        stated = {m.key: _values(m) for m in known}
        keys: dict[str, set[str]] = {}
        for m in known:
            keys.setdefault(m.name, set()).update(stated[m.key])
        # Null is as good as absent, where the name has the setting at another time.
        self._values = {
            m.key: {key: stated[m.key].get(key, {NULL}) for key in keys[m.name]} for m in known
        }
        seen: dict[tuple[str, str], set[str]] = {}
        self._keys = set()
        for m in known:
            for key, values in self._values[m.key].items():
                if seen.setdefault((m.name, key), values) != values and key not in OF_ONE_NAME:
                    self._keys.add(key)

    def fits(self, measurement: Measurement, layer: Iterable[Measurement]) -> bool:
        """Whether a layer lacks this name and agrees with this measurement."""
        return all(
            other.name != measurement.name and self._agree(measurement, other) for other in layer
        )

    def _agree(self, first: Measurement, second: Measurement) -> bool:
        """Whether both were taken under the same settings, or by different evaluations."""
        ours, theirs = self._values[first.key], self._values[second.key]
        shared = ours.keys() & theirs.keys()
        if not shared - OF_ONE_NAME - OF_EVERY_EVALUATION:
            return True
        return not any(ours[key].isdisjoint(theirs[key]) for key in shared & self._keys)


def _values(measurement: Measurement) -> dict[str, set[str]]:
    """The values of each setting as text; a mean has those of all its parts."""
    values: dict[str, set[str]] = {}
    for key, value in flatten(measurement.settings).items():
        values.setdefault(key.rpartition(".")[2], set()).add(canonical(value))
    return values


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


def _agreement(measurement: Measurement, layer: Iterable[Measurement]) -> int:
    """How many settings a measurement shares with those of a layer."""
    own = {(key, canonical(value)) for key, value in flatten(measurement.settings).items()}
    others = [flatten(other.settings) for other in layer]
    return sum((key, canonical(values[key])) in own for values in others for key in values)


def _with(record: Record, measured: Measured, *, timed: bool) -> Record:
    """The record with these measurements; unless ``timed``, without the time of evaluations."""
    results = {key: value for key, value in record.results.items() if key != OTHER_SETTINGS}
    meta = record.meta
    if not timed and "stages" in meta:
        kept = [stage for stage in meta["stages"] if not evaluates(str(stage["name"]))]
        meta = {**meta, "stages": kept}
    return dataclasses.replace(record, results=results | measured.to_json(), meta=meta)
