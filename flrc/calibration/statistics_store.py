"""Statistics block by block, through the stage cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    keep: Entry | None,
) -> Iterator[tuple[int, dict[str, InputStatistics]]]:
    """Input statistics by input group: from the cache entry, else collected and, if small, kept.

    Args:
        collect: Makes them, block by block.
        targets: The layers.
        keep: Where they are kept; None if they are too large.
    """

    def read(tensor: Callable[[str], Tensor], name: str, tokens: int) -> InputStatistics:
        return InputStatistics(tensor(f"{name}/gram"), tensor(f"{name}/mean_abs"), tokens)

    names = _by_block(targets, lambda target: target.input_group)
    return _stored(collect, names, keep, read)


def stored_outputs(
    collect: Callable[[], Iterator[tuple[int, dict[str, OutputStatistics]]]],
    targets: Sequence[Target],
    keep: Entry | None,
) -> Iterator[tuple[int, dict[str, OutputStatistics]]]:
    """Output statistics by target: as :func:`stored_inputs`."""

    def read(tensor: Callable[[str], Tensor], name: str, tokens: int) -> OutputStatistics:
        return OutputStatistics(tensor(f"{name}/gram"), tokens)

    return _stored(collect, _by_block(targets, lambda target: target.name), keep, read)


def _by_block(
    targets: Sequence[Target], name: Callable[[Target], str]
) -> dict[int, dict[str, None]]:
    found: dict[int, dict[str, None]] = {}
    for target in targets:
        found.setdefault(target.block, {})[name(target)] = None
    return dict(sorted(found.items()))


def _stored(
    collect: Callable[[], Iterator[tuple[int, dict[str, Statistics]]]],
    names: dict[int, dict[str, None]],
    keep: Entry | None,
    read: Callable[[Callable[[str], Tensor], str, int], Statistics],
) -> Iterator[tuple[int, dict[str, Statistics]]]:
    if keep is not None and keep.done:
        for block, members in names.items():
            with safe_open(keep.path / block_file(block), framework="pt") as file:
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
        return
    for block, statistics in collect():
        if keep is not None:
            tensors: dict[str, Tensor] = {}
            for name, known in statistics.items():
                tensors |= {
                    f"{name}/{field}": value
                    for field, value in vars(known).items()
                    if field != "tokens"
                }
            usual = next(iter(statistics.values())).tokens
            told = {"tokens": str(usual)} | {
                f"{name}/tokens": str(known.tokens)
                for name, known in statistics.items()
                if known.tokens != usual  # experts each see tokens of their own
            }
            keep.write_tensors(block_file(block), tensors, told)
        yield block, statistics
    if keep is not None:
        keep.finish()
