"""What a quantization is: the stored precision of a compressed model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from torch import nn

    from flrc.plans.target import Target


@dataclass
class Quantization(Component, ABC):
    """Changes the stored precision of a compressed model, once the factors are in place."""

    ROUNDS: ClassVar[bool] = True
    """Whether values change; they may then depend on how many ranks are stored, not only used."""

    @abstractmethod
    def quantize(self, model: nn.Module, targets: Sequence[Target]) -> None:
        """Quantise the targets in place, whether factored or dense, and nothing else."""
