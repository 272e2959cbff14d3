"""Keeps the bars and reports of other libraries out of the output: flrc shows what it does."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def without_bars() -> Iterator[None]:
    """Inside, ``transformers`` draws no progress bars; afterwards as before.

    The bar of its GGUF reader has no switch, so its function is replaced.
    """
    import transformers.modeling_gguf_pytorch_utils as gguf
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
    )
    from transformers.utils import logging as switches

    with ExitStack() as after:
        if switches.is_progress_bar_enabled():
            hub_without = are_progress_bars_disabled()
            if hub_without:  # enabling those of transformers enables both
                after.callback(disable_progress_bars)
            after.callback(switches.enable_progress_bar)
            switches.disable_progress_bar()
        after.callback(setattr, gguf, "tqdm", gguf.tqdm)  # type: ignore[attr-defined]
        gguf.tqdm = lambda items, **_: items  # type: ignore[attr-defined]
        yield


@contextmanager
def without_reports(function: Callable[..., Any]) -> Iterator[None]:
    """Inside, the module of a library's function logs nothing below warnings.

    Some modules of ``huggingface_hub`` name their logger after their file, so the level that is
    set for the library does not apply to them.
    """
    module = sys.modules[function.__module__]
    loggers = [logging.getLogger(name) for name in (module.__name__, str(module.__file__))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
