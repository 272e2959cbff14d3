"""Makes ``import flrc`` enough for ``transformers`` to know compressed models.

``transformers`` takes seconds to import, and this package is imported by every command, so it is
not imported for that: what has to be told is told once it is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

AWAITED = "transformers.models.auto.modeling_auto"
"""The module whose import ends where ``AutoModelForCausalLM`` begins."""


def register() -> None:
    """Tell ``transformers``: now if it is there, else as soon as it is."""
    if AWAITED in sys.modules:
        _tell()
    elif not any(isinstance(finder, _Awaiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Awaiting())


def _tell() -> None:
    importlib.import_module("flrc.models.checkpoints.huggingface")


class _Awaiting(MetaPathFinder):
    """Finds one module, as others would, and is asked to do so once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The awaited module's, whose loading ends with telling; of all others none."""
        if name != AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader)
        return spec


class _Telling(Loader):
    """Loads as the module's own loader does, and tells afterwards."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the own loader."""
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the own loader; then the registration."""
        self.own.exec_module(module)
        assert module.__spec__ is not None
        module.__spec__.loader = self.own
        _tell()
