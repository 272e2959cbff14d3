"""Statistics block by block, through the stage cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

from safetensors import safe_open
from torch import Tensor

from flrc.calibration.statistics import InputStatistics, OutputStatistics
from flrc.core.cache import Entry
from flrc.plans.target import Target

Statistics = TypeVar("Statistics", InputStatistics, OutputStatistics)


def block_file(block: int) -> str:
    """Name of the file of one block in a cache entry."""
    return f"block_{block:03d}.safetensors"


def input_bytes(targets: Sequence[Target]) -> int:
    """Bytes of all input statistics in float64."""
    widths = {target.input_group: target.d_in for target in targets}
    return sum(8 * (width * width + width) for width in widths.values())


def output_bytes(targets: Sequence[Target]) -> int:
    """Bytes of all output statistics in float32."""
    return sum(4 * target.d_out**2 for target in targets)


def stored(
    kind: type[Statistics],
    collect: Callable[[], Iterator[tuple[int, dict[str, Statistics]]]],
    names: Collection[tuple[int, str]],
    entry: Entry | None,
) -> Iterator[tuple[int, dict[str, Statistics]]]:
    """Statistics by name, block by block: from the cache entry, else collected and, if small, kept.

    Args:
        kind: Their class.
        collect: Measures them, block by block.
        names: Pairs of block and name: of the input group, or of the target for its outputs.
        entry: Where they are kept; None if they are too large.
    """
    if entry is None:
        yield from collect()
    elif entry.done:
        tensors = [field.name for field in fields(kind) if field.name != "tokens"]
        for block in sorted({block for block, _ in names}):
            with safe_open(entry.path / block_file(block), framework="pt") as file:
                metadata = file.metadata()
                statistics = {}
                for name in (name for of, name in names if of == block):
                    tokens = int(metadata.get(f"{name}/tokens", metadata["tokens"]))
                    known = {tensor: file.get_tensor(f"{name}/{tensor}") for tensor in tensors}
                    statistics[name] = kind(**known, tokens=tokens)
            yield block, statistics
    else:
        for block, statistics in collect():
            entry.write_tensors(block_file(block), *_tensors(statistics))
            yield block, statistics
        entry.finish()


def _tensors(statistics: Mapping[str, Statistics]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the file of a block."""
    tensors = {
        f"{name}/{field}": value
        for name, known in statistics.items()
        for field, value in vars(known).items()
        if field != "tokens"
    }
    usual = next(iter(statistics.values())).tokens
    metadata = {"tokens": str(usual)} | {
        f"{name}/tokens": str(known.tokens)
        for name, known in statistics.items()
        if known.tokens != usual  # each expert sees tokens of its own
    }
    return tensors, metadata
