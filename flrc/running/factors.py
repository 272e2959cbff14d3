"""Decomposes every target of a model, block by block, into the stage cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flrc.calibration.activation_checkpointing import graph_fits
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.output_statistics import joint_statistics, output_statistics
from flrc.calibration.statistics import BlockStatistics, InputStatistics, OutputStatistics
from flrc.calibration.statistics_store import (
    input_bytes,
    output_bytes,
    stored_inputs,
    stored_outputs,
)
from flrc.core.cache import locked
from flrc.core.component import plain
from flrc.core.progress import progress
from flrc.decomposition.dead_layers import decompose_target
from flrc.decomposition.factor_store import (
    Noted,
    StoredFactors,
    finish_factors,
    store_block,
    stored_before,
    stored_dtype,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.core.cache import Entry, StageCache
    from flrc.decomposition.base import Decomposition
    from flrc.decomposition.factors import Factors
    from flrc.plans.target import Target
    from flrc.running.stages import Stages


def factor_bytes(targets: Sequence[Target], dtype: torch.dtype) -> int:
    """Bytes of all full-rank factors as they are stored."""
    size = stored_dtype(dtype).itemsize
    return sum(min(t.d_out, t.d_in) * (t.d_out + t.d_in + 1) * size for t in targets)


def decomposed_block(
    model: PreTrainedModel,
    targets: Sequence[Target],
    decomposition: Decomposition,
    known: BlockStatistics,
) -> dict[str, Factors]:
    """Factors of the targets of one block, by name, each in the dtype that it is stored in."""
    dtype = stored_dtype(model.dtype)
    found: dict[str, Factors] = {}
    for target in targets:
        weight = target.weight(model).to(model.device)
        x, g = known.inputs.get(target.input_group), known.outputs.get(target.name)
        found[target.name] = decompose_target(
            decomposition,
            target,
            weight,
            None if x is None else x.to(weight.device),
            None if g is None else g.to(weight.device),
        ).to(dtype)
    return found


@dataclass(frozen=True)
class Calibrated:
    """What the statistics are taken on, and how much of them is held.

    Attributes:
        sequences: Calibration sequences.
        inputs: What decides them and the model, for cache keys.
        keep: Bytes up to which the statistics of one side are kept in the cache.
        memory: Bytes of output Grams that may be held at a time; more takes several passes.
        seed: Of what the statistics draw; part of ``inputs``.
    """

    sequences: Sequence[Tensor]
    inputs: dict[str, Any]
    keep: float
    memory: float
    seed: int = 0


def factorise(
    decomposition: Decomposition,
    model: PreTrainedModel,
    targets: Sequence[Target],
    calibrated: Calibrated,
    *,
    cache: StageCache,
    inputs: dict[str, Any],
    stages: Stages,
) -> StoredFactors:
    """Decompose all targets, block by block, unless the cache holds the factors already.

    Blocks that an interrupted run has stored are not decomposed again; their inputs are collected
    again, since those of later blocks follow from them.

    Only one block's factors and input statistics exist at a time, and as many blocks' output
    statistics as ``calibrated.memory`` allows.

    Args:
        decomposition: What to do with each weight.
        model: The dense model.
        targets: The layers, or groups of layers.
        calibrated: What the statistics are taken on.
        cache: Where statistics and factors are kept.
        inputs: What decides model and targets, for cache keys.
        stages: Where time and memory are noted, as ``statistics``, ``output gradients`` and
            ``decomposition``.
    """
    key = {**inputs, "decomposition": decomposition.describe()}
    if decomposition.CALIBRATED:
        key["calibration"] = calibrated.inputs
    kept = kept_statistics(decomposition, targets, calibrated, inputs, cache)
    entry = cache.entry("factors", key)
    with locked(entry, *kept):
        with stages("decomposition") as stage:
            stage.cached = entry.done
        if not stage.cached:
            noted = Noted()
            known = known_statistics(decomposition, model, targets, calibrated, kept, stages)
            read = decomposition.CALIBRATED and not (kept[0] is not None and kept[0].done)
            doing = "calibrating and decomposing" if read else "decomposing"
            blocks = len({target.block for target in targets})
            for of_block in progress(known, f"{doing}, block by block", blocks):
                members = [target for target in targets if target.block == of_block.block]
                with stages("decomposition"):
                    before = stored_before(entry, of_block.block)
                    if before is None:
                        found = decomposed_block(model, members, decomposition, of_block)
                        before = store_block(entry, of_block.block, found, model.dtype)
                        found.clear()  # else it is held until the next block's are made
                    noted.add(before)
            finish_factors(entry, noted)
    return StoredFactors(entry, {target.name: target for target in targets})


Kept = tuple["Entry | None", "Entry | None"]
"""Where the statistics of the inputs and of the outputs are kept."""


def kept_statistics(
    decomposition: Decomposition,
    targets: Sequence[Target],
    calibrated: Calibrated,
    inputs: dict[str, Any],
    cache: StageCache,
) -> Kept:
    """Cache entries of what the decomposition reads; None for what it does not, or is too large.

    Args:
        decomposition: What reads them.
        targets: The layers, or groups of layers.
        calibrated: What the statistics are taken on.
        inputs: What decides model and targets, for cache keys.
        cache: Where they are kept.
    """
    keep_inputs = keep_outputs = None
    if decomposition.CALIBRATED and input_bytes(targets) <= calibrated.keep:
        keep_inputs = cache.entry("statistics", calibrated.inputs)
    if decomposition.TWO_SIDED and output_bytes(targets) <= calibrated.keep:
        settings = {"settings": plain(decomposition.gradients()), "targets": inputs}
        keep_outputs = cache.entry("output_gradients", {**calibrated.inputs, **settings})
    return keep_inputs, keep_outputs


def known_statistics(
    decomposition: Decomposition,
    model: PreTrainedModel,
    targets: Sequence[Target],
    calibrated: Calibrated,
    kept: Kept,
    stages: Stages | None = None,
) -> Iterator[BlockStatistics]:
    """What the decomposition reads, block by block; empty where it reads nothing.

    Inputs and outputs that are both read, both unknown and fit into memory together come from one
    pass; it counts as ``output gradients``.

    Args:
        decomposition: What reads it.
        model: The dense model.
        targets: The layers, or groups of layers.
        calibrated: What the statistics are taken on.
        kept: From :func:`kept_statistics`; the caller holds them.
        stages: Where time and memory are noted, as ``statistics`` and ``output gradients``; None
            where they are a part of the caller's stage.

    Yields:
        The statistics of one block, emptied when those of the next are asked for.
    """
    blocks = sorted({target.block for target in targets})
    inputs: Iterable[tuple[int, dict[str, InputStatistics]]] = ((block, {}) for block in blocks)
    outputs: Iterable[tuple[int, dict[str, OutputStatistics]]] = ((block, {}) for block in blocks)
    sequences, seed, memory = calibrated.sequences, calibrated.seed, calibrated.memory
    settings = decomposition.gradients()
    collect_inputs, collect_outputs = (
        lambda: input_statistics(model, targets, sequences),
        lambda: output_statistics(model, targets, sequences, settings, memory, seed),
    )
    if (
        decomposition.CALIBRATED
        and decomposition.TWO_SIDED
        and not any(entry is not None and entry.done for entry in kept)
        and input_bytes(targets) + output_bytes(targets) <= memory
        and graph_fits(model, targets, sequences, memory)
    ):
        one, other = tee(joint_statistics(model, targets, sequences, settings, seed))
        collect_inputs, collect_outputs = (
            lambda: ((known.block, known.inputs) for known in one),
            lambda: ((known.block, known.outputs) for known in other),
        )
    if decomposition.CALIBRATED:
        inputs = stored_inputs(collect_inputs, targets, kept[0])
        inputs = stages.each("statistics", inputs) if stages else inputs
    if decomposition.TWO_SIDED:
        outputs = stored_outputs(collect_outputs, targets, kept[1])
        outputs = stages.each("output gradients", outputs) if stages else outputs
    # Outputs first: their pass runs over the whole model before the inputs' begins.
    for (block, of_outputs), (same, of_inputs) in zip(outputs, inputs, strict=True):
        assert block == same
        yield BlockStatistics(block, of_inputs, of_outputs)
        # The makers below and the caller still refer to them while the next block's are made.
        of_inputs.clear()
        of_outputs.clear()
