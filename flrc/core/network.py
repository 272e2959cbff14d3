"""Allows network access only where a run requires it: for data and models from the hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from flrc.core.extras import not_installed

log = logging.getLogger(__name__)

SECONDS = 10
"""How long the hub may take to answer."""
OFFLINE = "HF_HUB_OFFLINE"
BY_DEFAULT = "FLRC_OFFLINE_BY_DEFAULT"
"""Environment variable: set if flrc, and not the user, has set ``HF_HUB_OFFLINE``."""


def offline_by_default() -> None:
    """Set the Hugging Face libraries to offline mode, unless the user has set the mode."""
    if OFFLINE not in os.environ:
        os.environ[OFFLINE] = "1"
        os.environ[BY_DEFAULT] = "1"


@cache
def hub_reachable() -> bool:
    """Whether the hub answers, asked once: the libraries would try again for a minute."""
    from huggingface_hub.constants import ENDPOINT

    try:
        with urlopen(Request(ENDPOINT, method="HEAD"), timeout=SECONDS):
            return True
    except HTTPError:  # an answer, too
        return True
    except OSError as error:
        log.info("%s cannot be reached: %s", ENDPOINT, error)
        return False


@contextmanager
def online() -> Iterator[None]:
    """Inside, allow access to the hub if it answers, unless the user has set ``HF_HUB_OFFLINE``.

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
    if BY_DEFAULT in os.environ and hub_reachable():
        for module, name, _ in before:
            setattr(module, name, False)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
