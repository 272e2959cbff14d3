"""The cells of a study's table: runs that agree in all facts of row and column, as one value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flrc.errors import UserError
from flrc.results.records.measurement import Measurement
from flrc.results.records.paired import Items, items_of
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder, model_name
from flrc.results.studies.manifest import Job
from flrc.results.tables.columns import check_settings, is_neutral
from flrc.results.tables.facts import Facts, facts_of, matches
from flrc.results.tables.layout import LAYER, Layout

RATE_TOLERANCE = 0.05
"""How far the rates behind one cell may lie apart: seeds spend a schedule a little differently."""
OWN_VERSIONS = frozenset({"python", "flrc"})
"""Versions that may differ within a column: the numbers do not come from them."""


NEUTRAL = frozenset({"targets/stored", "model/bytes_of_dense", "model/flops_of_dense", "score"})
"""What has no better direction."""
SECONDS, SEARCH_SPEEDUP = "allocation/seconds", "allocation/speedup"


class MixedModels(UserError):
    """Two models would stand under one name, or in one cell."""


class MixedVersions(UserError):
    """A column would hold numbers made by different versions of a library."""


@dataclass(frozen=True)
class Value:
    """One cell.

    Attributes:
        mean: Mean over the seeds.
        deviation: Sample standard deviation over the seeds; None for one.
        stderr: Standard error over the items, for one seed, where the evaluation gives one.
        count: Seeds.
        rate: The rate that was spent, mean over the seeds.
        runs: Ids of the runs.
        unit: Unit of the value.
        higher_is_better: Direction.
    """

    mean: float
    deviation: float | None
    stderr: float | None
    count: int
    rate: float
    runs: list[str]
    unit: str
    higher_is_better: bool | None

    @property
    def error(self) -> float | None:
        """Standard error of the mean: over the seeds, or over the items of one."""
        if self.deviation is not None:
            return self.deviation / math.sqrt(self.count)
        return self.stderr


@dataclass(frozen=True)
class Run:
    """A finished run with its facts, in the paper's words.

    Attributes:
        record: Its record.
        facts: What it is in this study.
        measurements: By name, the derived ones too.
        folder: Where its items are, for comparing two runs item by item; None where they are not
            at hand.
    """

    record: Record
    facts: Facts
    measurements: dict[str, Measurement]
    folder: RunFolder | None = None

    @cached_property
    def items(self) -> Items:
        """Its items; empty where they are not at hand."""
        return items_of(self.folder, self.record) if self.folder is not None else {}


def runs_of(
    records: Sequence[Record],
    layout: Layout,
    jobs: Sequence[Job] = (),
    folders: Mapping[str, RunFolder] | None = None,
) -> list[Run]:
    """The finished runs, as the study asked for them.

    A run that two methods share carries the name under which it was computed first; what it is in
    this study its job says.

    Raises:
        MixedModels: If two models have one label.
        MixedSettings: If a measurement was made under different settings.
        MixedVersions: If it was made by different versions of a library.
    """
    finished = [record for record in records if record.run["status"] == "ok"]
    check_models(finished)
    check_settings(finished)
    check_versions(finished)
    if layout.of_layers:
        return [run for record in finished for run in _layers(record, layout)]
    asked: dict[str, list[Facts]] = {}
    for job in jobs:
        asked.setdefault(job.run, []).append(job.facts)
    runs = [
        Run(
            record,
            layout.read(facts),
            {layout.read_name(m.name): m for m in [*record.measurements, *derived(record)]},
            (folders or {}).get(str(record.run["id"])),
        )
        for record in finished
        for facts in asked.get(str(record.run["id"]), [facts_of(record.run["config"])])
    ]
    return _with_speedups(runs) if SEARCH_SPEEDUP in layout.columns else runs


def _layers(record: Record, layout: Layout) -> list[Run]:
    """One run for each layer of the model: its score."""
    whole = layout.read(facts_of(record.run["config"]))
    return [
        Run(
            record,
            whole | {fact: layer[fact] for fact in LAYER},
            {"score": Measurement("score", layer["score"], "", True, None, 1, {}, whole["rate"])},
        )
        for layer in record.results.get("layers", [])
        if layer.get("score") is not None
    ]


def _with_speedups(runs: list[Run]) -> list[Run]:
    """How many times faster each search is than ASVD's (the paper's section 4.4)."""
    slow = [r.measurements[SECONDS].value for r in runs
            if r.facts["method"] == "asvd_alloc" and SECONDS in r.measurements]  # fmt: skip
    if not slow:
        return runs
    faster = []
    for run in runs:
        own = run.measurements.get(SECONDS)
        more = dict(run.measurements)
        if own is not None and own.value > 0:
            ratio = slow[0] / own.value
            more[SEARCH_SPEEDUP] = Measurement(
                SEARCH_SPEEDUP, ratio, "", True, None, 1, {}, own.rate
            )
        faster.append(Run(run.record, run.facts, more, run.folder))
    return faster


def check_models(records: Sequence[Record]) -> None:
    """Raise MixedModels if two models have one label: a study names its models by that."""
    first: dict[str, tuple[str, str]] = {}
    for record in records:
        label, revision = model_name(record), str(record.meta.get("model_revision"))
        known, run = first.setdefault(label, (revision, str(record.run["id"])))
        if known != revision:
            raise MixedModels(
                f"two models of one study are both called {label}",
                given=f"{run}: {known[:12]}; {record.run['id']}: {revision[:12]}",
                allowed="a label for each model",
                fix="model.label=NAME for one of them, and run the study again",
            )


def check_versions(records: Sequence[Record]) -> None:
    """Raise MixedVersions unless all records come from the same libraries."""
    first: dict[str, tuple[str, str]] = {}
    for record in records:
        for library, version in (record.meta.get("versions") or {}).items():
            known, run = first.setdefault(library, (str(version), str(record.run["id"])))
            if library not in OWN_VERSIONS and known != version:
                raise MixedVersions(
                    f"one table would mix versions of {library}",
                    given=f"{run}: {known}; {record.run['id']}: {version}",
                    allowed="records made by the same versions (constraints.txt pins them)",
                    fix="remove the older record and run the study again: it alone is computed",
                )


def derived(record: Record) -> list[Measurement]:
    """What a record knows without calling it a measurement: shares stored, seconds of a search.

    ``model/bytes_of_dense`` and ``model/flops_of_dense`` (of one token, attention over the context
    left out) are of the whole model, ``targets/stored`` of the targets' parameters.
    """
    found = []
    results = record.results
    parameters = results.get("parameters", {})
    realised = float(results.get("rate", {}).get("realised", 0.0))

    def add(name: str, value: float, unit: str, better: bool | None) -> None:
        found.append(Measurement(name, value, unit, bool(better), None, 1, {}, realised))

    sizes = results.get("bytes", {})
    if sizes.get("model_dense"):
        add("model/bytes_of_dense", sizes["model_stored"] / sizes["model_dense"], "", None)
    if parameters.get("targets_dense"):
        flops = results.get("flops_per_token")
        if flops:
            saved = 2 * (parameters["targets_dense"] - parameters["targets_activated"])
            add("model/flops_of_dense", flops / (flops + saved), "", None)
        add("targets/stored", parameters["targets_stored"] / parameters["targets_dense"], "", None)
    seconds = allocation_seconds(record)
    if seconds is not None:
        add("allocation/seconds", seconds, "s", False)
    return found


def allocation_seconds(record: Record) -> float | None:
    """Seconds for deciding the ranks: scores, probes and the allocation itself.

    None where a part was read from the cache of another run and its time is not known.
    """
    if "search" not in record.results:
        return None
    stages = {stage["name"]: stage for stage in record.meta.get("stages", [])}
    scoring = stages.get("sensitivity")
    if scoring is not None and scoring["cached"]:
        return None
    total = float(stages.get("allocation", {}).get("seconds", 0.0))
    probes = float(record.results["search"].get("seconds") or 0.0)
    # Probes that were read from the cache took their seconds in another run.
    total = max(total, probes)
    return total + (float(scoring["seconds"]) if scoring is not None else 0.0)


def value(runs: Sequence[Run], asked: Facts, name: str) -> Value | None:
    """The cell of all runs with these facts, or None if there is none.

    Raises:
        UserError: If the runs differ in more than the seed, or were measured at different rates.
    """
    chosen = [run for run in runs if matches(run.facts, asked) and name in run.measurements]
    if not chosen:
        return None
    _check_only_seeds(chosen, asked, name)
    found = [run.measurements[name] for run in chosen]
    values = [m.value for m in found]
    return Value(
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        stderr=found[0].stderr if len(values) == 1 else None,
        count=len(values),
        rate=float(np.mean([m.rate for m in found])),
        runs=[str(run.record.run["id"]) for run in chosen],
        unit=found[0].unit,
        higher_is_better=None if _is_neutral(name) else found[0].higher_is_better,
    )


def _is_neutral(name: str) -> bool:
    return name in NEUTRAL or is_neutral(name.rpartition("/")[2])


def _check_only_seeds(chosen: Sequence[Run], asked: Facts, name: str) -> None:
    seeds = [run.record.run["seed"] for run in chosen]
    rates = [run.measurements[name].rate for run in chosen]
    where = ", ".join(f"{fact} {shown}" for fact, shown in asked.items())
    given = ", ".join(dict.fromkeys(str(run.record.run["id"]) for run in chosen))
    if len(set(seeds)) < len(seeds):
        raise UserError(
            f"two runs of one seed fall into one cell ({where}; {name})",
            given=given,
            allowed="runs that differ in the seed only",
            fix="name the fact in which they differ in the table's rows, or keep one of them",
        )
    models = {str(run.record.meta.get("model_revision")) for run in chosen}
    if len(models) > 1:
        raise MixedModels(
            f"one cell would mix models ({where}; {name})",
            given=given,
            allowed="runs of one model",
            fix="name the model in the table's rows",
        )
    if max(rates) - min(rates) > RATE_TOLERANCE:
        raise UserError(
            f"one cell would mix rates ({where}; {name})",
            given=given + f": {min(rates):.4f} to {max(rates):.4f}",
            allowed=f"rates that lie within {RATE_TOLERANCE} of each other",
        )
