"""No quantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.quantization.base import Quantization

if TYPE_CHECKING:
    from torch import nn

    from flrc.plans.target import Target


@dataclass
class NoQuantization(Quantization):
    """Weights keep the run's dtype."""

    ROUNDS: ClassVar[bool] = False

    name: str = "none"

    def quantize(self, model: nn.Module, targets: Sequence[Target]) -> None:
        """Leaves the model as it is."""
