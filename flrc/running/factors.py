"""Decomposes every target of a model, block by block, into the stage cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from flrc.calibration.statistics_store import input_bytes, output_bytes
from flrc.core.cache import locked
from flrc.core.progress import progress
from flrc.decomposition.dead_layers import decompose_target
from flrc.decomposition.factor_store import (
    FactorNotes,
    StoredFactors,
    finish_factors,
    store_block,
    stored_before,
    stored_dtype,
)
from flrc.decomposition.statistics import Statistics

if TYPE_CHECKING:
    from flrc.calibration.statistics import BlockStatistics
    from flrc.core.cache import Entry
    from flrc.decomposition.factors import Factors
    from flrc.plans.target import Target
    from flrc.running.context import Context
    from flrc.running.profiling import Stages


def decompose(context: Context) -> StoredFactors:
    """Full-rank factors of every target, shared by all rates and allocators."""
    return factorise(statistics_of(context), context.entries.factors(), context.stages)


def statistics_of(context: Context) -> Statistics:
    """What the run's decomposition reads; cached unless it is too large."""
    decomposition, paths = context.config.decomposition, context.config.paths
    keep, targets = paths.keep_statistics_gb * 1e9, context.dense.targets
    inputs = outputs = None
    if decomposition.CALIBRATED and input_bytes(targets) <= keep:
        inputs = context.entries.statistics()
    if decomposition.TWO_SIDED and output_bytes(targets) <= keep:
        outputs = context.entries.output_gradients()
    memory = paths.statistics_memory_gb * 1e9
    return Statistics(decomposition, context.dense, inputs, outputs, memory)


def factorise(statistics: Statistics, entry: Entry, stages: Stages) -> StoredFactors:
    """Decompose all targets, block by block, unless the entry holds the factors already.

    Blocks that an interrupted run has stored are not decomposed again; their inputs are collected
    again, since those of later blocks follow from them.

    Only one block's factors and input statistics exist at a time, and as many blocks' output
    statistics as ``statistics.memory`` allows.

    Args:
        statistics: The decomposition, the dense model, and what is read of it.
        entry: Where factors are cached.
        stages: Where time and memory are noted, as ``statistics``, ``output gradients`` and
            ``decomposition``.
    """
    dense = statistics.dense
    with locked(entry, statistics.inputs, statistics.outputs):
        with stages("decomposition") as stage:
            stage.cached = entry.done
        if not stage.cached:
            notes = FactorNotes()
            known = statistics.inputs is not None and statistics.inputs.done
            reads = statistics.decomposition.CALIBRATED and not known
            calibrating = f"calibrating on {len(dense.sequences)} sequences and "
            doing = f"{calibrating if reads else ''}decomposing"
            count = len({target.block for target in dense.targets})
            blocks = progress(statistics.blocks(stages.each), doing, count, "block")
            for block in blocks:
                with stages("decomposition"):
                    stored = stored_before(entry, block.block)
                    if stored is None:
                        factors = decomposed_block(statistics, block)
                        stored = store_block(entry, block.block, factors, dense.model.dtype)
                        factors.clear()  # else it is held until the next block's are made
                    notes.add(stored)
            finish_factors(entry, notes)
    return StoredFactors(entry, {target.name: target for target in dense.targets})


def decomposed_block(statistics: Statistics, known: BlockStatistics) -> dict[str, Factors]:
    """Factors of the targets of one block, by name, each in the dtype that it is stored in."""
    model = statistics.dense.model
    factors: dict[str, Factors] = {}
    for target in statistics.dense.targets:
        if target.block != known.block:
            continue
        weight = target.weight(model).to(model.device)
        x, g = known.inputs.get(target.input_group), known.outputs.get(target.name)
        factors[target.name] = decompose_target(
            statistics.decomposition,
            target,
            weight,
            None if x is None else x.to(weight.device),
            None if g is None else g.to(weight.device),
        ).to(stored_dtype(model.dtype))
    return factors


def factor_bytes(targets: Sequence[Target], dtype: torch.dtype) -> int:
    """Bytes of all full-rank factors as they are stored."""
    size = stored_dtype(dtype).itemsize
    return sum(min(t.d_out, t.d_in) * (t.d_out + t.d_in + 1) * size for t in targets)
