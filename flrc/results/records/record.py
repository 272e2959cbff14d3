"""The record of one run: the only source of tables, plots and tracker pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from flrc.results.records.measurement import Measurement

METHOD_SLOTS = (
    "decomposition",
    "grouping",
    "form",
    "sensitivity",
    "allocator",
    "schedule",
    "search",
    "refine",
    "heal",
    "quantization",
)
"""The components that make a method, without those that evaluate or publish it."""

UNNAMED = {"heal": "none"}
"""Slots that a record does not name while they have this component: earlier ones had none."""

OTHER_SETTINGS = "other_settings"
"""In ``results``, if there are any: what earlier commands measured under other settings."""

SCHEMA = 1
"""Version of the record's layout."""


@dataclass
class Record:
    """Everything about one run (written as ``record.json``).

    Attributes:
        run: ``id``, ``status`` (``ok``, ``failed``, ``running``), ``method`` (the preset's name),
            ``components`` (slot -> component name), ``config`` (plain, whole), ``seed``, ``study``;
            if failed ``stage``, ``error``.
        results: ``measurements``, one for each name, as the latest command measured it;
            ``other_settings``, if there are any: earlier measurements of the same names under other
            settings, the latest first; ``rate`` {requested, realised, per_token}, ``parameters``
            {targets_dense, targets_activated, targets_stored, model_dense, model_stored}, ``bytes``
            {model_dense, model_stored, indices}, ``flops_per_token``, ``layers`` [{target, block,
            shape, rank (null: kept dense; 0: its output is 0), relative_error, ...}], ``phases``
            (empty while their search is deferred; what is stored is then left out), ``rescues``;
            ``ignored_tensors``, the names of tensors of the checkpoint that the model does not
            have, if any; ``healing``, if the factors were tuned: ``distilled`` {losses, checks
            [{step, held_out, seconds}], chosen, stopped if it diverged} and ``blockwise`` [the same
            for each ``block``], whichever there was, and ``tokens``
            (:mod:`~flrc.results.records.healing`).
        meta: ``git`` {commit, dirty}, ``versions``, ``model_revision``, ``data_revisions``,
            ``device``, ``dtype``, ``threads``, ``command``, ``started``, ``stages`` [{name,
            seconds, peak_bytes, cached}]; ``weights``, the digest of the compressed weights, if
            they were saved or returned, and ``made_by``, the command that made these, if it is not
            ``command``.
    """

    run: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def measurements(self) -> list[Measurement]:
        """The measurements as objects."""
        return [Measurement(**m) for m in self.results.get("measurements", [])]

    @property
    def other_settings(self) -> list[Measurement]:
        """What earlier commands measured of the same names under other settings, as objects."""
        return [Measurement(**m) for m in self.results.get(OTHER_SETTINGS, [])]

    @property
    def components(self) -> dict[str, str]:
        """Slot -> component name, of slots that the record does not name too."""
        return {**UNNAMED, **self.run.get("components", {})}

    @property
    def search_deferred(self) -> bool:
        """Whether the run's schedule has yet to be searched; what it stores is then not known."""
        return self.results.get("phases") == []

    @property
    def seconds(self) -> float:
        """Seconds of all its stages."""
        return sum(float(stage["seconds"]) for stage in self.meta.get("stages", []))

    def only(self, names: Collection[str]) -> Record:
        """The record with only these of the latest measurements: a run may hold more."""
        measured = [m for m in self.results.get("measurements", []) if m["name"] in names]
        results = {key: value for key, value in self.results.items() if key != OTHER_SETTINGS}
        return dataclasses.replace(self, results={**results, "measurements": measured})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, ``schema`` first; the record's own dictionaries, not copies."""
        return {"schema": SCHEMA, "run": self.run, "results": self.results, "meta": self.meta}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """Read a record of this schema version.

        Raises:
            ValueError: If it was written by another version, or is no record.
        """
        if values.get("schema") != SCHEMA:
            raise ValueError(f"record schema {values.get('schema')!r}; this version reads {SCHEMA}")
        parts = {name: values[name] for name in ("run", "results", "meta")}
        if not all(isinstance(part, dict) for part in parts.values()):
            raise ValueError("its run, results and meta must be objects")
        return cls(**parts)
