"""The one progress bar: what is being done, how far, how long it will still take, what it needs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from flrc.core.memory import device_peak, held

Item = TypeVar("Item")
_open: list[tqdm[Any]] = []
"""Bars that have begun and not ended, the outermost first."""


def progress(items: Iterable[Item], doing: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items under a bar on standard error; silent where that is not a terminal.

    A bar that begins while another waits for its next item takes its line, until it ends.

    At its end stands the most memory that was seen in use after an item: of the GPU once one is
    used, else of the process, without files that are mapped into it.
    """
    most = 0
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
                    most = max(most, _in_use())
                    bar.set_postfix_str(f"{most / 1e9:.1f} GB", refresh=False)
        finally:
            _open[:] = [other for other in _open if other is not bar]  # equal is all in one line
    if _open:
        _open[-1].refresh()


def _in_use() -> int:
    torch = sys.modules.get("torch")  # where nothing has imported it, nothing is on a GPU
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return device_peak()
    return held() or 0
