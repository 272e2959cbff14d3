"""The configuration of a run: schemas, registration with Hydra, cross-field validation.

Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from flrc.allocator.base import Allocator
from flrc.calibration.base import Calibration
from flrc.core.canonical import Canonical
from flrc.core.component import Component, discover, plain
from flrc.core.dtypes import DTYPES
from flrc.core.resolvers import register_resolvers
from flrc.data.base import DataSource
from flrc.decomposition.base import Decomposition
from flrc.errors import UserError, choose
from flrc.evaluation.base import Evaluation
from flrc.form.base import Form
from flrc.grouping.base import Grouping
from flrc.healing.base import Healing
from flrc.healing.none import NoHealing
from flrc.models.sources.base import ModelSource
from flrc.quantization.base import Quantization
from flrc.refine.base import Refinement
from flrc.runtime.base import Runtime
from flrc.schedule.base import Schedule
from flrc.search.base import ScheduleSearch
from flrc.sensitivity.base import Sensitivity
from flrc.tracking.base import Tracker

GROUPS: dict[str, tuple[str, type[Component]]] = {
    "model": ("flrc.models.sources", ModelSource),
    "data": ("flrc.data", DataSource),
    "calibration": ("flrc.calibration", Calibration),
    "decomposition": ("flrc.decomposition", Decomposition),
    "grouping": ("flrc.grouping", Grouping),
    "form": ("flrc.form", Form),
    "sensitivity": ("flrc.sensitivity", Sensitivity),
    "allocator": ("flrc.allocator", Allocator),
    "schedule": ("flrc.schedule", Schedule),
    "search": ("flrc.search", ScheduleSearch),
    "refine": ("flrc.refine", Refinement),
    "heal": ("flrc.healing", Healing),
    "quantization": ("flrc.quantization", Quantization),
    "runtime": ("flrc.runtime", Runtime),
    "evaluation": ("flrc.evaluation", Evaluation),
    "tracker": ("flrc.tracking", Tracker),
}
"""Configuration group -> the package that holds its components, and their base class."""

PLACEMENTS = ("device", "host")
MOST_THREADS = 1024
"""Operating systems kill processes that ask for many more."""


@dataclass
class Method:
    """The label of the preset; the components decide what is computed.

    Attributes:
        name: Name of the preset; a label, which never enters an id.
    """

    name: str = MISSING


@dataclass
class Paths(Canonical):
    """Folders.

    Attributes:
        runs: Folder of the records.
        cache: Folder of results that runs share: statistics, factors, gradients, dense replies.
        cache_limit_gb: Size above which the least recently used cache entries are evicted, in 10^9
            bytes.
        keep_statistics_gb: Statistics of one calibration up to this size are cached, in 10^9 bytes;
            larger ones are collected again where needed.
        statistics_memory_gb: Memory for Gram matrices of gradients, in 10^9 bytes. A model that
            needs more takes several backward passes; those of the inputs are collected in the same
            pass if they also fit. It also limits the graph of one backward pass: if that is larger,
            blocks are recomputed.
    """

    runs: str = "runs"
    cache: str = ".cache"
    cache_limit_gb: float = 40.0
    keep_statistics_gb: float = 2.0
    statistics_memory_gb: float = 8.0

    def __post_init__(self) -> None:
        """Folders must have names, sizes must be finite and at least 0."""
        for name in ("runs", "cache"):
            value = getattr(self, name)
            if not value.strip():
                raise UserError(
                    f"paths.{name} is empty",
                    given=f"paths.{name}={value}",
                    allowed="a folder; . is the current one",
                )
        for name in ("cache_limit_gb", "keep_statistics_gb", "statistics_memory_gb"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UserError(
                    f"paths.{name} is out of range",
                    given=f"paths.{name}={value:g}",
                    allowed="a number of gigabytes, 0 or more",
                )


@dataclass
class RunConfig(Canonical):
    """Everything about one run; ``flrc.pipeline.run`` is a function of it.

    Attributes:
        method: Preset: a named combination of the other groups.
        model: Where the model comes from.
        data: Where data sets come from: ``sample`` (included), ``folder`` or ``hub``.
        calibration: Sequences for statistics and gradients.
        decomposition: How a weight becomes ordered factors.
        grouping: Which layers are decomposed together.
        form: How factors are stored.
        sensitivity: Score of each layer.
        allocator: How the budget is divided into ranks.
        schedule: Rate at each forward step.
        search: How its switch points and rates are chosen.
        refine: What is done to factors once the plan is known.
        heal: How factors are tuned on calibration sequences.
        quantization: Precision of the stored factors.
        runtime: How the compressed model is executed.
        evaluation: What is measured.
        tracker: Where finished records are sent.
        paths: Folders, and limits of disk and memory.
        rate: Share of the target parameters that one forward step does not use, averaged over
            steps; in [0, 1).
        seed: Seed of everything that is drawn at random.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        placement: ``device``: the whole model is on the device. ``host``: it is in host memory, and
            one decoder block at a time is on the device, while it computes.
        dtype: Data type of the model: ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        threads: CPU threads; None for torch's choice.
        force: Whether finished work is computed again.
        dry_run: Whether the command only says what would run, and what it would take: operations,
            time on this machine and memory, counted without loading weights.
        workers: Jobs of a sweep that run at a time on a machine, each in a process of its own. 0:
            one after the other in this process under the basic launcher, as many as it starts under
            another one.
        study: Name under which runs are grouped.
        scale: Size of a study: ``small`` or ``paper``; ``none`` outside of studies.
    """

    method: Method = field(default_factory=Method)
    model: ModelSource = MISSING
    data: DataSource = MISSING
    calibration: Calibration = MISSING
    decomposition: Decomposition = MISSING
    grouping: Grouping = MISSING
    form: Form = MISSING
    sensitivity: Sensitivity = MISSING
    allocator: Allocator = MISSING
    schedule: Schedule = MISSING
    search: ScheduleSearch = MISSING
    refine: Refinement = MISSING
    heal: Healing = field(default=MISSING, metadata={"added": NoHealing()})
    quantization: Quantization = MISSING
    runtime: Runtime = MISSING
    evaluation: dict[str, Evaluation] = field(default_factory=dict)
    tracker: Tracker = MISSING
    paths: Paths = field(default_factory=Paths)
    rate: float = 0.2
    seed: int = 0
    device: str = "auto"
    placement: str = "device"
    dtype: str = "float32"
    threads: int | None = None
    force: bool = False
    dry_run: bool = False
    workers: int = 0
    study: str = "adhoc"
    scale: str = "none"

    def __post_init__(self) -> None:
        """Check rules that involve several fields; components check themselves."""
        if not isinstance(self.rate, float | int):  # a schema under construction
            return
        if not 0 <= self.rate < 1:
            raise UserError(
                "rate is out of range: it is the share of the target parameters that is removed",
                given=f"rate={self.rate:g}",
                allowed="a number in [0, 1)",
                fix=f"rate={self.rate / 100:g}" if 2 <= self.rate < 100 else "rate=0.2",
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(
                "seed is out of range", given=f"seed={self.seed}", allowed="0 to 2^63 - 1"
            )
        choose("dtype", self.dtype, DTYPES)
        choose("placement", self.placement, PLACEMENTS)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UserError(
                "threads is out of range",
                given=f"threads={self.threads}",
                allowed=f"1 to {MOST_THREADS}, or null for torch's choice",
                fix="threads=null",
            )
        if not re.fullmatch(r"\w[\w.-]*", self.study):
            raise UserError(
                "study is the name of a group of runs, and of a folder",
                given=f"study={self.study}",
                allowed="letters, digits, _, - and .; starting with a letter, digit or _",
            )
        if self.workers < 0:
            raise UserError(
                "workers is out of range", given=f"workers={self.workers}", allowed="0 or more"
            )
        if not isinstance(self.allocator, Allocator):
            return
        if not self.evaluation:
            raise UserError(
                "no evaluation is chosen",
                given="evaluation=[]",
                fix="evaluation=[perplexity], for example"
                + "; flrc compress MODEL -o FOLDER saves a model without" * self.model.save,
            )
        if not self.compresses:
            return
        if self.allocator.SCORED and self.sensitivity.name == "none":
            raise UserError(
                f"allocator={self.allocator.name} reads scores, but no sensitivity is chosen",
                given="sensitivity=none",
                allowed="a sensitivity",
                fix="sensitivity=fisher",
            )
        if self.heal.HEALS and self.dtype == "float16":
            raise UserError(
                "gradients of a healing are too small for float16",
                given=f"heal={self.heal.name}, dtype=float16",
                allowed="bfloat16, float32 or float64; or heal=none",
                fix="dtype=bfloat16",
            )
        phased = self.searches or len(self.schedule.phases(self.rate)) > 1
        if phased and self.refine.REFINES:
            raise UserError(
                f"refine={self.refine.name} fits factors to one plan, and the schedule changes "
                "plans while it generates",
                given=f"refine={self.refine.name}, schedule={self.schedule.name}",
                allowed="refine=none, or a schedule of one phase",
                fix="schedule=constant, or refine=none",
            )
        for evaluation in self.evaluation.values():
            if phased and getattr(evaluation, "num_beams", 1) > 1:
                raise UserError(
                    "beam search cannot follow a schedule: its beams do not share their steps",
                    given=f"schedule={self.schedule.name}, num_beams={evaluation.num_beams}",  # type: ignore[attr-defined]
                    allowed="greedy decoding, or beam search with schedule=constant",
                    fix=f"evaluation.{evaluation.name}.num_beams=1, or schedule=constant",
                )

    @property
    def compresses(self) -> bool:
        """Whether anything is removed; a dense run, or rate 0, is the dense model."""
        return self.decomposition.COMPRESSES and self.rate > 0

    @property
    def searches(self) -> bool:
        """Whether the schedule's phases are searched; a constant schedule has only one."""
        return self.compresses and self.search.SEARCHES and self.schedule.DIRECTION != 0

    @property
    def reads_phases(self) -> bool:
        """Whether the run asks for anything that depends on the phases of its schedule.

        Generation follows them, a saved model stores the ranks of all of them, and rounded factors
        depend on the ranks that are stored, as tuned ones do. Prefill-only evaluations use the
        constant plan.
        """
        generates = any(evaluation.generates() for evaluation in self.evaluation.values())
        return generates or self.model.save or self.quantization.ROUNDS or self.heal.HEALS

    @property
    def calibrates(self) -> bool:
        """Whether calibration sequences are read at all."""
        return self.compresses and (
            self.decomposition.CALIBRATED
            or self.allocator.PROBES
            or self.refine.REFINES
            or self.heal.HEALS
            or (self.allocator.SCORED and self.sensitivity.CALIBRATED)
        )

    def parts(self) -> Iterator[tuple[str, Component]]:
        """Every component that the run has, with the setting that chose it."""
        for group in GROUPS:
            if isinstance(component := getattr(self, group), Component):
                yield f"{group}={component.name}", component
        for evaluation in self.evaluation.values():
            yield f"evaluation=[{evaluation.name}]", evaluation

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON values, as a record stores them."""
        values: dict[str, Any] = plain(self)
        return values

    def runs_path(self) -> Path:
        """Folder of the records, absolute."""
        return Path(self.paths.runs).expanduser().resolve()

    def cache_path(self) -> Path:
        """Folder of the cache, absolute."""
        return Path(self.paths.cache).expanduser().resolve()


def components(group: str) -> dict[str, type[Component]]:
    """The components of a configuration group, by name."""
    return discover(*GROUPS[group])


@cache
def register() -> None:
    """Store the schemas with Hydra: ``run_schema`` and one ``schema/<group>/<name>`` each.

    Also registers the functions of the configuration files, ``${by_scale:...}`` and others.
    """
    register_resolvers()
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    store.store(group="schema/paths", name="paths", node=Paths)
    for group in GROUPS:
        for name, component in components(group).items():
            store.store(group=f"schema/{group}", name=name, node=component)
