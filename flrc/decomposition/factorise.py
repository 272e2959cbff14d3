"""Decomposes every target of a model, block by block, into the stage cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from flrc.cache import locked
from flrc.calibration.collect import input_statistics
from flrc.calibration.output_gradients import joint_statistics, output_statistics
from flrc.calibration.statistics import BlockStatistics, InputStatistics, OutputStatistics
from flrc.calibration.stored import (
    block_file,
    input_bytes,
    output_bytes,
    stored_inputs,
    stored_outputs,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.cache import Entry, StageCache
    from flrc.decomposition.base import Decomposition
    from flrc.models.targets import Target
    from flrc.stages import Stages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredFactors:
    """Full-rank factors of all targets on disk; what is read is what is asked for.

    Attributes:
        entry: The cache entry: a safetensors file a block, and ``rescues.json``.
        targets: The layers.
    """

    entry: Entry
    targets: dict[str, Target]

    def factors(self, name: str, rank: int) -> tuple[Tensor, Tensor]:
        """``left_t (rank, d_out)`` and ``right (rank, d_in)``: only these rows are read."""
        path = self.entry.path / block_file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            return (
                file.get_slice(f"{name}/left_t")[:rank],
                file.get_slice(f"{name}/right")[:rank],
            )

    def spectrum(self, name: str) -> Tensor:
        """``(r,)`` singular values in the decomposition's metric."""
        path = self.entry.path / block_file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            spectrum: Tensor = file.get_tensor(f"{name}/spectrum")
        return spectrum

    def rescues(self) -> dict[str, str]:
        """Numerical rescues by target name."""
        rescues: dict[str, str] = self.entry.read_json("rescues.json")
        return rescues


def factor_bytes(targets: Sequence[Target], dtype: torch.dtype) -> int:
    """Bytes of all full-rank factors as they are stored."""
    size = torch.promote_types(dtype, torch.float32).itemsize
    return sum(min(t.d_out, t.d_in) * (t.d_out + t.d_in + 1) * size for t in targets)


def factorise_block(
    model: PreTrainedModel,
    targets: Sequence[Target],
    decomposition: Decomposition,
    inputs: Mapping[str, InputStatistics],
    outputs: Mapping[str, OutputStatistics],
    entry: Entry,
) -> dict[str, str]:
    """Decompose the targets of one block into ``entry``.

    Factors are computed in float64 and stored in the model's dtype, at least float32.

    Args:
        model: The dense model.
        targets: The layers, or groups of layers, of this block.
        decomposition: What to do with each weight.
        inputs: By input group; empty where the decomposition is not calibrated.
        outputs: By target name; empty where the decomposition is not two-sided.
        entry: Where the factors go.

    Returns:
        Numerical rescues by target name.

    Raises:
        ValueError: If factors are not finite.
    """
    rescues: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for target in targets:
        weight = target.weight(model)
        x, g = inputs.get(target.input_group), outputs.get(target.name)
        factors = decomposition.decompose(
            weight,
            None if x is None else x.to(weight.device),
            None if g is None else g.to(weight.device),
        )
        if not bool(torch.isfinite(factors.left_t).all() & torch.isfinite(factors.right).all()):
            raise ValueError(f"the factors of {target.name} are not finite")
        if factors.rescue is not None:
            rescues[target.name] = factors.rescue
        dtype = torch.promote_types(weight.dtype, torch.float32)
        tensors[f"{target.name}/left_t"] = factors.left_t.to(dtype)
        tensors[f"{target.name}/right"] = factors.right.to(dtype)
        tensors[f"{target.name}/spectrum"] = factors.spectrum
    entry.write_tensors(block_file(targets[0].block), tensors, {})
    return rescues


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
            rescues: dict[str, str] = {}
            known = known_statistics(decomposition, model, targets, calibrated, kept, stages)
            for of_block in known:
                members = [target for target in targets if target.block == of_block.block]
                with stages("decomposition"):
                    rescues |= factorise_block(
                        model, members, decomposition, of_block.inputs, of_block.outputs, entry
                    )
            for name, what in rescues.items():
                log.warning("rescue: %s: %s", name, what)
            entry.write_json("rescues.json", rescues)
            entry.finish()
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
        settings = {"settings": vars(decomposition.gradients()), "targets": inputs}
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
