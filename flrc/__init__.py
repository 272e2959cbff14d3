"""flrc: compress large language models with low-rank factors, and know what it costs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flrc.core.version import __version__

if TYPE_CHECKING:
    from flrc.library.compression import compress, run
    from flrc.library.generation import generate, load
    from flrc.library.healing import heal
    from flrc.library.saving import save

__all__ = ["__version__", "compress", "generate", "heal", "load", "register", "run", "save"]

_HOMES = {
    "compress": "flrc.library.compression",
    "generate": "flrc.library.generation",
    "heal": "flrc.library.healing",
    "load": "flrc.library.generation",
    "run": "flrc.library.compression",
    "save": "flrc.library.saving",
}
"""The module of each function; imported on first use, as torch takes seconds to import."""


def register() -> None:
    """Register compressed models with ``AutoConfig`` and ``AutoModelForCausalLM``."""
    importlib.import_module("flrc.models.checkpoints.huggingface")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flrc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
