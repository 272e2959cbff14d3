"""Imports of large libraries, without the garbage collector walking what they make."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside, nothing is collected; afterwards, what exists is never examined again.

    Importing torch and transformers makes a million objects that live as long as the process.
    Python's collector would examine all of them many times: a sixth of the CPU time until a job
    starts. Once torch is imported, nothing is done: the models of earlier jobs, if they wait to be
    collected, would be kept for ever.
    """
    if "torch" in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
