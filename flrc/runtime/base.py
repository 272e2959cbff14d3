"""What a runtime is: how the compressed model is executed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.component import Component

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Runtime(Component, ABC):
    """Prepares a compressed model for execution."""

    @abstractmethod
    def prepare(self, model: nn.Module) -> None:
        """Set the model up, in place."""
