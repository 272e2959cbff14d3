"""Decomposes every target of a model, block by block, into the stage cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from flrc.calibration.collect import input_statistics
from flrc.calibration.statistics import InputStatistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.cache import Entry, StageCache
    from flrc.decomposition.base import Decomposition
    from flrc.models.targets import Target
    from flrc.stages import Stages

log = logging.getLogger(__name__)


def _file(block: int) -> str:
    return f"block_{block:03d}.safetensors"


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
        path = self.entry.path / _file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            return (
                file.get_slice(f"{name}/left_t")[:rank],
                file.get_slice(f"{name}/right")[:rank],
            )

    def spectrum(self, name: str) -> Tensor:
        """``(r,)`` singular values in the decomposition's metric."""
        path = self.entry.path / _file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            spectrum: Tensor = file.get_tensor(f"{name}/spectrum")
        return spectrum

    def rescues(self) -> dict[str, str]:
        """Numerical rescues by target name."""
        rescues: dict[str, str] = self.entry.read_json("rescues.json")
        return rescues


def statistics_bytes(targets: Sequence[Target]) -> int:
    """Bytes of all input statistics in float64."""
    widths = {target.input_group: target.d_in for target in targets}
    return sum(8 * (width * width + width) for width in widths.values())


def factor_bytes(targets: Sequence[Target], dtype: torch.dtype) -> int:
    """Bytes of all full-rank factors as they are stored."""
    size = torch.promote_types(dtype, torch.float32).itemsize
    return sum(min(t.d_out, t.d_in) * (t.d_out + t.d_in + 1) * size for t in targets)


def calibrated_blocks(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    keep: Entry | None,
) -> Iterator[tuple[int, dict[str, InputStatistics]]]:
    """Statistics block by block: from the cache entry, else collected and, if small, kept.

    Args:
        model: The dense model.
        targets: The layers.
        sequences: Calibration sequences.
        keep: Where the statistics are kept; None if they are too large.
    """
    if keep is not None and keep.done:
        for block in sorted({target.block for target in targets}):
            with safe_open(keep.path / _file(block), framework="pt") as file:
                yield (
                    block,
                    {
                        group: InputStatistics(
                            file.get_tensor(f"{group}/gram"),
                            file.get_tensor(f"{group}/mean_abs"),
                            int(file.metadata()["tokens"]),
                        )
                        for group in {t.input_group for t in targets if t.block == block}
                    },
                )
        return
    for block, statistics in input_statistics(model, targets, sequences):
        if keep is not None:
            tensors = {f"{group}/gram": s.gram for group, s in statistics.items()}
            tensors |= {f"{group}/mean_abs": s.mean_abs for group, s in statistics.items()}
            tokens = next(iter(statistics.values())).tokens
            keep.write_tensors(_file(block), tensors, {"tokens": str(tokens)})
        yield block, statistics
    if keep is not None:
        keep.finish()


def factorise_block(
    model: PreTrainedModel,
    targets: Sequence[Target],
    decomposition: Decomposition,
    statistics: dict[str, InputStatistics],
    entry: Entry,
) -> dict[str, str]:
    """Decompose the targets of one block into ``entry``.

    Factors are computed in float64 and stored in the model's dtype, at least float32.

    Args:
        model: The dense model.
        targets: The layers of this block.
        decomposition: What to do with each weight.
        statistics: By input group; empty where the decomposition is not calibrated.
        entry: Where the factors go.

    Returns:
        Numerical rescues by target name.

    Raises:
        ValueError: If factors are not finite.
    """
    rescues: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for target in targets:
        weight = model.get_submodule(target.name).weight
        assert isinstance(weight, Tensor)
        known = statistics.get(target.input_group)
        if known is not None:
            known = InputStatistics(
                known.gram.to(weight.device), known.mean_abs.to(weight.device), known.tokens
            )
        factors = decomposition.decompose(weight.data, known)
        if not bool(torch.isfinite(factors.left_t).all() & torch.isfinite(factors.right).all()):
            raise ValueError(f"the factors of {target.name} are not finite")
        if factors.rescue is not None:
            rescues[target.name] = factors.rescue
        dtype = torch.promote_types(weight.dtype, torch.float32)
        tensors[f"{target.name}/left_t"] = factors.left_t.to(dtype)
        tensors[f"{target.name}/right"] = factors.right.to(dtype)
        tensors[f"{target.name}/spectrum"] = factors.spectrum
    entry.write_tensors(_file(targets[0].block), tensors, {})
    return rescues


@contextmanager
def _locked(*entries: Entry | None) -> Iterator[None]:
    """Hold cache entries, always in the order given, so that workers cannot block each other."""
    with ExitStack() as stack:
        for entry in entries:
            if entry is not None:
                stack.enter_context(entry.lock())
        yield


def factorise(
    decomposition: Decomposition,
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    *,
    cache: StageCache,
    model_inputs: dict[str, Any],
    calibration_inputs: dict[str, Any],
    keep_statistics: float,
    stages: Stages,
) -> StoredFactors:
    """Decompose all targets, block by block, unless the cache holds the factors already.

    Only one block's statistics and factors exist at a time.

    Args:
        decomposition: What to do with each weight.
        model: The dense model.
        targets: The layers.
        sequences: Calibration sequences.
        cache: Where statistics and factors are kept.
        model_inputs: What decides the dense model's numbers.
        calibration_inputs: What decides the sequences.
        keep_statistics: Bytes up to which statistics are kept beside the factors.
        stages: Where time and memory are noted, as ``statistics`` and ``decomposition``.
    """
    inputs: dict[str, Any] = {"model": model_inputs}
    keep = None
    if decomposition.CALIBRATED:
        inputs["calibration"] = calibration_inputs
        if statistics_bytes(targets) <= keep_statistics:
            keep = cache.entry("statistics", inputs)
    entry = cache.entry("factors", {**inputs, "decomposition": decomposition.describe()})
    with _locked(entry, keep):
        with stages("decomposition") as stage:
            stage.cached = entry.done
        if not stage.cached:
            blocks: Iterable[tuple[int, dict[str, InputStatistics]]] = (
                stages.each("statistics", calibrated_blocks(model, targets, sequences, keep))
                if decomposition.CALIBRATED
                else ((block, {}) for block in sorted({t.block for t in targets}))
            )
            rescues: dict[str, str] = {}
            for block, statistics in blocks:
                members = [target for target in targets if target.block == block]
                with stages("decomposition"):
                    rescues |= factorise_block(model, members, decomposition, statistics, entry)
            for name, what in rescues.items():
                log.warning("rescue: %s: %s", name, what)
            entry.write_json("rescues.json", rescues)
            entry.finish()
    return StoredFactors(entry, {target.name: target for target in targets})
