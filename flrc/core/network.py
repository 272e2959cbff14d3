"""The network is used only where a run says so: ``data=hub``, a hub model, a hub metric model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

OFFLINE = "HF_HUB_OFFLINE"
BY_DEFAULT = "FLRC_OFFLINE_BY_DEFAULT"
"""Environment variable that says that it was flrc, not the user, who set ``HF_HUB_OFFLINE``."""


def offline_by_default() -> None:
    """Keep the Hugging Face libraries off the network, unless the user has decided about it."""
    if OFFLINE not in os.environ:
        os.environ[OFFLINE] = "1"
        os.environ[BY_DEFAULT] = "1"


@contextmanager
def online() -> Iterator[None]:
    """Allow access to the hub inside, and restore what was set before.

    A user who has set ``HF_HUB_OFFLINE`` keeps it: only what is in the local cache is found then.
    The libraries read that variable once, on import, into constants, which are what they look at
    from then on: so the constants are what is changed here.
    """
    import datasets.config
    import huggingface_hub.constants

    # `datasets` keeps a second name for its constant; not every version has it.
    places = [
        (huggingface_hub.constants, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_DATASETS_OFFLINE"),
    ]
    before = [
        (module, name, getattr(module, name)) for module, name in places if hasattr(module, name)
    ]
    if BY_DEFAULT in os.environ:
        for module, name, _ in before:
            setattr(module, name, False)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
