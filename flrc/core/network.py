"""Allows network access only where a run requires it: for data and models from the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from flrc.core.extras import not_installed

OFFLINE = "HF_HUB_OFFLINE"
BY_DEFAULT = "FLRC_OFFLINE_BY_DEFAULT"
"""Environment variable: set if flrc, and not the user, has set ``HF_HUB_OFFLINE``."""


def offline_by_default() -> None:
    """Set the Hugging Face libraries to offline mode, unless the user has set the mode."""
    if OFFLINE not in os.environ:
        os.environ[OFFLINE] = "1"
        os.environ[BY_DEFAULT] = "1"


@contextmanager
def online() -> Iterator[None]:
    """Inside, allow access to the hub, unless the user has set ``HF_HUB_OFFLINE``.

    The libraries read that variable into constants when they are imported, so the constants are
    changed here.
    """
    import huggingface_hub.constants

    constants: list[tuple[ModuleType, str]] = [(huggingface_hub.constants, "HF_HUB_OFFLINE")]
    if not not_installed(["datasets"]):
        import datasets.config

        # It has a second name for its constant in some versions.
        names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
        constants += [(datasets.config, name) for name in names]
    before = [
        (module, name, getattr(module, name)) for module, name in constants if hasattr(module, name)
    ]
    if BY_DEFAULT in os.environ:
        for module, name, _ in before:
            setattr(module, name, False)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
