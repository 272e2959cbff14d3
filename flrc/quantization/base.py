"""What a quantization is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.component import Component

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Quantization(Component, ABC):
    """Changes the stored precision of a compressed model, after surgery."""

    @abstractmethod
    def quantize(self, model: nn.Module) -> None:
        """Quantise in place."""
