"""Work in batches that shrink when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from flrc.core.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What CUDA says outside of torch's own allocator; accelerate knows only the allocator's words."""


def halved(size: int, error: Exception) -> int:
    """The batch size to go on with after an error, which is said.

    Raises:
        Exception: The error, if it is none that a smaller batch would help.
    """
    from accelerate.utils.memory import should_reduce_batch_size

    memory = isinstance(error, MemoryError) or should_reduce_batch_size(error)
    beside = isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY)
    if not (memory or beside) or size < 2:
        raise error
    log.warning("out of memory with batches of %d: going on with batches of %d", size, size // 2)
    return size // 2


def give_back() -> None:
    """Free the memory of a failed try, once its error is gone: that holds on to its tensors."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def in_batches(
    items: Sequence[Item],
    size: int,
    compute: Callable[[Sequence[Item]], Sequence[Result]],
    doing: str,
) -> list[Result]:
    """Results of all items, in order, computed some at a time.

    Out of memory, a batch is tried again at half the size, and so are all that follow; what was
    computed before stays. Numbers do not depend on the size.

    Args:
        items: What to compute on.
        size: Items at a time, at first.
        compute: As many results as items.
        doing: What the progress bar says.
    """
    results: list[Result] = []
    waiting = progress(items, doing, len(items))
    batch: list[Item] = []
    for item in waiting:
        batch.append(item)
        while batch and (len(batch) >= size or len(results) + len(batch) == len(items)):
            try:
                results += compute(batch[:size])
                batch = batch[size:]
                continue
            except (RuntimeError, MemoryError) as error:
                size = halved(min(size, len(batch)), error)
            give_back()
    return results
