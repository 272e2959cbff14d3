"""The one progress bar: what is being done, how far, and how long it will still take."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], doing: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items under a bar on standard error; silent where that is not a terminal."""
    yield from tqdm(
        items,
        desc=doing,
        total=total,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        mininterval=0.2,
    )
