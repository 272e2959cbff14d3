"""Statistics block by block, through the stage cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from safetensors import safe_open

from flrc.calibration.statistics import InputStatistics, OutputStatistics

if TYPE_CHECKING:
    from torch import Tensor

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


def stored_inputs(
    collect: Callable[[], Iterator[tuple[int, dict[str, InputStatistics]]]],
    targets: Sequence[Target],
    entry: Entry | None,
) -> Iterator[tuple[int, dict[str, InputStatistics]]]:
    """Input statistics by input group: from the cache entry, else collected and, if small, kept.

    Args:
        collect: Measures them, block by block.
        targets: The layers.
        entry: Where they are kept; None if they are too large.
    """

    def read(tensor: Callable[[str], Tensor], name: str, tokens: int) -> InputStatistics:
        return InputStatistics(tensor(f"{name}/gram"), tensor(f"{name}/mean_abs"), tokens)

    groups = [(target.block, target.input_group) for target in targets]
    return _stored(collect, groups, entry, read)


def stored_outputs(
    collect: Callable[[], Iterator[tuple[int, dict[str, OutputStatistics]]]],
    targets: Sequence[Target],
    entry: Entry | None,
) -> Iterator[tuple[int, dict[str, OutputStatistics]]]:
    """Output statistics by target: as :func:`stored_inputs`."""

    def read(tensor: Callable[[str], Tensor], name: str, tokens: int) -> OutputStatistics:
        return OutputStatistics(tensor(f"{name}/gram"), tokens)

    return _stored(collect, [(target.block, target.name) for target in targets], entry, read)


def _stored(
    collect: Callable[[], Iterator[tuple[int, dict[str, Statistics]]]],
    names: Sequence[tuple[int, str]],
    entry: Entry | None,
    read: Callable[[Callable[[str], Tensor], str, int], Statistics],
) -> Iterator[tuple[int, dict[str, Statistics]]]:
    """Statistics by name, block by block; ``names`` are pairs of block and name."""
    if entry is None:
        yield from collect()
    elif entry.done:
        for block in sorted({block for block, _ in names}):
            members = dict.fromkeys(name for of, name in names if of == block)
            with safe_open(entry.path / block_file(block), framework="pt") as file:
                tokens = file.metadata()
                yield (
                    block,
                    {
                        name: read(
                            file.get_tensor,
                            name,
                            int(tokens.get(f"{name}/tokens", tokens["tokens"])),
                        )
                        for name in members
                    },
                )
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
