"""The finished runs of a study, with the facts under which the study asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flrc.errors import UserError
from flrc.results.records.measurement import Measurement
from flrc.results.records.record import Record
from flrc.results.records.run_key import RunKey, key_of
from flrc.results.records.store import RunFolder, model_name
from flrc.results.studies.manifest import Job
from flrc.results.tables.columns import check_settings
from flrc.results.tables.derived import derived
from flrc.results.tables.facts import Facts, facts_of
from flrc.results.tables.layout import LAYER, Layout
from flrc.results.tables.value import MixedModels, TableRun

OWN_VERSIONS = frozenset({"python", "flrc"})
"""Versions that may differ within a table: the numbers do not depend on them."""
SECONDS, SPEEDUP = "allocation/seconds", "allocation/speedup"


class MixedVersions(UserError):
    """A table would mix numbers made by different versions of a library."""


def runs_of(
    records: Sequence[Record],
    layout: Layout,
    jobs: Sequence[Job] = (),
    folders: Mapping[RunKey, RunFolder] | None = None,
) -> list[TableRun]:
    """The finished runs with their facts, in the words of the layout.

    A run that two methods share is named after the method that computed it first; its jobs say what
    it is in this study. ``folders`` says where the items of a run are stored.

    Raises:
        MixedModels: If two models have the same label.
        MixedSettings: If a measurement was taken under different settings.
        MixedVersions: If the numbers were made by different versions of a library.
    """
    finished = [record for record in records if record.run["status"] == "ok"]
    _check_models(finished)
    check_settings(finished)
    _check_versions(finished)
    if layout.of_layers:
        return [run for record in finished for run in _layers(record, layout)]
    asked: dict[RunKey, list[Facts]] = {}
    for job in jobs:
        asked.setdefault(job.key, []).append(job.facts)
    runs = [
        TableRun(
            record,
            layout.read(facts),
            {layout.read_name(m.name): m for m in [*record.measurements, *derived(record)]},
            (folders or {}).get(key_of(record)),
        )
        for record in finished
        for facts in asked.get(key_of(record), [facts_of(record.run["config"])])
    ]
    return _with_speedups(runs) if SPEEDUP in layout.columns else runs


def _layers(record: Record, layout: Layout) -> list[TableRun]:
    """One entry for each layer of the model: its score."""
    facts = layout.read(facts_of(record.run["config"]))
    return [
        TableRun(
            record,
            facts | {fact: layer[fact] for fact in LAYER},
            {"score": Measurement("score", layer["score"], "", True, None, 1, {}, facts["rate"])},
        )
        for layer in record.results.get("layers", [])
        if layer.get("score") is not None
    ]


def _with_speedups(runs: list[TableRun]) -> list[TableRun]:
    """How many times faster each search is than ASVD's (the paper's section 4.4)."""
    timed = [run for run in runs if SECONDS in run.measurements]
    slow = [r.measurements[SECONDS].value for r in timed if r.facts["method"] == "asvd_alloc"]

    def with_speedup(run: TableRun) -> TableRun:
        own = run.measurements.get(SECONDS)
        if not slow or own is None or own.value <= 0:
            return run
        faster = replace(
            own, name=SPEEDUP, value=slow[0] / own.value, unit="", higher_is_better=True
        )
        return replace(run, measurements={**run.measurements, SPEEDUP: faster})

    return [with_speedup(run) for run in runs]


def _check_models(records: Sequence[Record]) -> None:
    """Raise MixedModels if two models have one label, by which a study names its models."""
    first: dict[str, tuple[str, str]] = {}
    for record in records:
        label, revision = model_name(record), str(record.meta.get("model_revision"))
        known, run = first.setdefault(label, (revision, str(record.run["id"])))
        if known != revision:
            raise MixedModels(
                f"two models of one study are both called {label}",
                given=f"{run}: {known[:12]}; {record.run['id']}: {revision[:12]}",
                allowed="a different label for each model",
                fix="set model.label=NAME for one of them and run the study again",
            )


def _check_versions(records: Sequence[Record]) -> None:
    """Raise MixedVersions unless all records were made with the same libraries."""
    first: dict[str, tuple[str, str]] = {}
    for record in records:
        for library, version in (record.meta.get("versions") or {}).items():
            known, run = first.setdefault(library, (str(version), str(record.run["id"])))
            if library not in OWN_VERSIONS and known != version:
                raise MixedVersions(
                    f"one table would mix versions of {library}",
                    given=f"{run}: {known}; {record.run['id']}: {version}",
                    allowed="records made with the same versions (constraints.txt pins them)",
                    fix="remove the older record and run the study again; only it is recomputed",
                )
