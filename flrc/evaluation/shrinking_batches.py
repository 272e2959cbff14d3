"""Computes in batches that are halved when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from flrc.core.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Errors of CUDA outside torch's allocator; accelerate recognises only those of the allocator."""


def halved(size: int, error: Exception) -> int:
    """Half the batch size, after an out-of-memory error, which is logged.

    Raises:
        Exception: The error, if it has another cause or the batch cannot be smaller.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    out_of_memory = (
        isinstance(error, MemoryError)
        or should_reduce_batch_size(error)
        or any(message in str(error) for message in OUT_OF_MEMORY)
    )
    if not out_of_memory or size < 2:
        raise error
    log.warning("out of memory with batches of %d: continuing with batches of %d", size, size // 2)
    return size // 2


def free_memory() -> None:
    """Free the memory of a failed attempt, after its error, which holds references to tensors."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def in_batches(
    items: Sequence[Item],
    size: int,
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    doing: str,
) -> list[Result]:
    """Results of all items, in order, computed batch by batch.

    When memory runs out, the batch and all later ones are computed at half the size; finished
    results are kept. The results do not depend on the batch size. ``compute`` returns one result
    for each item of a batch.
    """
    results: list[Result] = []
    batch: list[Item] = []
    for item in progress(items, doing):
        batch.append(item)
        while batch and (len(batch) >= size or len(results) + len(batch) == len(items)):
            try:
                results += compute(batch[:size])
                batch = batch[size:]
                continue
            except (RuntimeError, MemoryError) as error:
                size = halved(min(size, len(batch)), error)
            free_memory()
    return results
