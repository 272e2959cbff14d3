"""What a run would take on this machine, stage by stage; no weight is read."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from flrc.core import jsonfile
from flrc.core.component import plain
from flrc.errors import UserError
from flrc.running.identity import CALIBRATION, HELD_OUT, SEARCH, Entries, run_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.config import RunConfig
    from flrc.core.cache import Entry
    from flrc.core.demand import Rates
    from flrc.data.token_sequences import TokenSequences
    from flrc.plans.target import Target
    from flrc.running.reckoning import Reckoning, StageDemand

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageEstimate:
    """What one stage would take.

    Attributes:
        name: As in records.
        operations: Floating-point operations.
        seconds: On this machine; None if its throughput cannot be measured here.
        host: Peak bytes of host memory, the process and its weights included.
        device: Peak bytes of the CUDA device; None without one.
        cached: Whether the result is in the cache already.
        results: What runs share the result by; it is computed once for all of them.
    """

    name: str
    operations: float
    seconds: float | None
    host: float
    device: float | None
    cached: bool = False
    results: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunEstimate:
    """What a run would take.

    Attributes:
        stages: In order.
        disk: Bytes of factors and statistics in the cache.
        rates: What the times are reckoned with: operations, bytes and calls per second.
        threads: CPU threads; None on a CUDA device.
    """

    stages: list[StageEstimate]
    disk: int
    rates: dict[str, float] | None
    threads: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunEstimate:
        """Read :meth:`to_json` back."""
        stages = [StageEstimate(**stage) for stage in values["stages"]]
        return cls(**values | {"stages": stages})


def estimate_run(config: RunConfig) -> RunEstimate | None:
    """What the run would take; None, with a note in the log, if only its weights tell.

    Reads the config, the tokenizer and the data, and measures this machine for a few seconds.

    Raises:
        UserError: If a row that is used is bad, or the model is not one that can be compressed.
    """
    import torch

    from flrc.core.cache import StageCache
    from flrc.models.anatomy.forward_trace import UndecidedError
    from flrc.models.anatomy.model_shape import ModelShape
    from flrc.running import environment
    from flrc.running.reckoning import Reckoning

    environment.set_threads(config.threads)
    reads = _reads(config)
    try:
        model, targets = _shell(config)
    except UndecidedError as error:
        log.info("what the run takes is known once the weights are loaded: %s", error)
        return None
    reckoning = Reckoning(config, ModelShape.of(model, targets), model.dtype, reads)
    device, rates = _machine(config.device, config.dtype, torch.get_num_threads())
    entries = Entries(
        config,
        {name: read.digest() for name, read in reads.items()},
        StageCache(config.cache_path(), int(config.paths.cache_limit_gb * 1e9)),
    )
    base, cuda = _resident(), device == "cuda"
    stages = []
    for stage in reckoning.stages():
        results = list(filter(None, _results(stage.name, reckoning, entries)))
        host, on_device = memory(reckoning, stage, base, cuda=cuda)
        stages.append(
            StageEstimate(
                name=stage.name,
                operations=stage.demand.operations,
                seconds=None if rates is None else stage.demand.seconds(rates),
                host=host,
                device=on_device,
                cached=any(entry.done for entry in results),
                results=[str(entry.path) for entry in results],
            )
        )
    threads = None if cuda else torch.get_num_threads()
    return RunEstimate(stages, reckoning.disk, None if rates is None else vars(rates), threads)


def memory(
    reckoning: Reckoning, stage: StageDemand, base: float, *, cuda: bool
) -> tuple[float, float | None]:
    """Peak bytes of a stage on the host and on the CUDA device.

    Args:
        reckoning: Of the run.
        stage: One of its stages.
        base: Bytes of the process before the model is loaded.
        cuda: Whether the model computes on a CUDA device.
    """
    shape, held = reckoning.shape, stage.demand.held
    weights = shape.bytes
    if stage.after_surgery:
        removed = (1 - reckoning.kept) * sum(target.dense for target in shape.targets)
        weights -= round(removed * shape.itemsize)
    if not cuda:
        return base + weights + held, None
    if stage.name == "load" or reckoning.config.placement == "device" or stage.after_surgery:
        return base + shape.bytes, weights + held
    resident = weights - sum(block.weights for block in shape.blocks) * shape.itemsize
    return base + weights, resident + 2 * shape.block_bytes + held


def _results(name: str, reckoning: Reckoning, entries: Entries) -> list[Entry | None]:
    """The cache entries any of which makes a stage unnecessary."""
    if name in ("statistics", "output gradients"):
        known = entries.statistics if name == "statistics" else entries.output_gradients
        return [entries.factors(), known() if reckoning.cached_bytes(name) else None]
    if name == "decomposition":
        return [entries.factors()]
    if name == "sensitivity":
        return [entries.scores()]
    if name == "allocation" and reckoning.config.allocator.measurements()[1] == 0:
        return [entries.probes()]
    return []


@cache
def _machine(device: str, dtype: str, threads: int) -> tuple[str, Rates | None]:
    """The type of the run's device, and its throughput; None if this machine has no such device.

    ``threads`` are torch's now, on which the throughput depends.
    """
    import torch

    from flrc.core.devices import resolve_device
    from flrc.running.machine import measured_rates

    try:
        resolved = resolve_device(device)
    except UserError as error:
        log.info("no times: %s (%s)", error.problem, error.given)
        return torch.device(device).type if device.startswith("cuda") else "cpu", None
    return resolved.type, measured_rates(resolved, getattr(torch, dtype), threads)


@cache
def _resident() -> int:
    """Bytes of this process once everything is imported, before any model is loaded."""
    import psutil
    import transformers.generation.utils  # noqa: F401  # imported by every run

    return int(psutil.Process().memory_info().rss)


_known_reads: dict[str, dict[str, TokenSequences]] = {}
_known_shells: dict[str, tuple[PreTrainedModel, list[Target]]] = {}
"""What the jobs of a sweep have in common is read once."""


def _reads(config: RunConfig) -> dict[str, TokenSequences]:
    """Every token sequence of the run."""
    from flrc.running.preflight import read_sequences, searched_now

    searches = config.searches and searched_now(config, run_folder(config))
    asked: dict[str, Any] = {
        "model": config.model.fingerprint(),
        "seed": config.seed,
        "data": plain(config.data),
        "evaluation": plain(config.evaluation),
        CALIBRATION: plain(config.calibration) if config.calibrates else None,
        HELD_OUT: config.heal.unseen,
        SEARCH: plain(config.search) if searches else None,
    }
    key = jsonfile.digest(asked, 20)
    if key not in _known_reads:
        _known_reads[key] = read_sequences(config, config.model.tokenizer(), searches)
    return _known_reads[key]


def _shell(config: RunConfig) -> tuple[PreTrainedModel, list[Target]]:
    """The model without weights, in the run's dtype, and its targets."""
    import torch

    from flrc.models.anatomy.targets import find_targets
    from flrc.models.sources.loading import model_shell

    key = jsonfile.digest(
        [config.model.fingerprint(), config.grouping.describe(), config.dtype], 20
    )
    if key not in _known_shells:
        model = model_shell(config.model).to(getattr(torch, config.dtype))
        _known_shells[key] = (model, list(config.grouping.targets(find_targets(model))))
    return _known_shells[key]
