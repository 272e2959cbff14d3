"""The progress bar: description, progress, remaining time, memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from flrc.core.memory import anonymous_memory, device_peak

Item = TypeVar("Item")
_open: list[tqdm[Any]] = []
"""Active bars, the outermost first."""


def progress(items: Iterable[Item], doing: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items while showing a bar on standard error, if that is a terminal.

    A nested bar temporarily replaces the outer one, on the same line. The bar ends with the highest
    memory use seen after an item: on the GPUs if they are used, else of the process without mapped
    files.
    """
    highest = 0
    with tqdm(
        items,
        desc=doing,
        total=total,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        mininterval=0.2,
        position=0,
    ) as bar:
        _open.append(bar)
        try:
            for item in bar:
                yield item
                if not bar.disable:
                    highest = max(highest, _in_use())
                    bar.set_postfix_str(f"{highest / 1e9:.1f} GB", refresh=False)
        finally:
            # Not _open.remove(bar): bars compare equal by position.
            _open[:] = [other for other in _open if other is not bar]
    if _open:
        _open[-1].refresh()


def _in_use() -> int:
    torch = sys.modules.get("torch")  # if it is not imported, no GPU is used
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return device_peak()
    return anonymous_memory() or 0
