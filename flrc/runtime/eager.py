"""Plain PyTorch modules, called one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.runtime.base import Runtime

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Eager(Runtime):
    """The reference runtime: no compilation, no offloading."""

    name: str = "eager"

    def prepare(self, model: nn.Module) -> None:
        """Evaluation mode, nothing else."""
        model.eval()
