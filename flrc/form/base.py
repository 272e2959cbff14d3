"""What a form is: how factors are stored, and what a rank costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.component import Component

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.models.targets import Target


@dataclass
class Form(Component, ABC):
    """Storage of factors of one target."""

    @abstractmethod
    def cost(self, rank: int, target: Target) -> int:
        """Parameters that a forward step reads at ``rank``; strictly increasing in the rank."""

    @abstractmethod
    def build(
        self, left_t: Tensor, right: Tensor, bias: Tensor | None, weight: Tensor | None
    ) -> nn.Module:
        """The layer that holds these factors (and the dense weight where a phase needs it)."""

    def dense_rank(self, target: Target) -> int:
        """The smallest rank that costs no less than the dense weight: here a layer stays dense.

        A layer above break-even would grow; the paper leaves such layers uncompressed (section
        3.1).
        """
        low, high = 1, min(target.d_out, target.d_in)
        if self.cost(high, target) < target.dense:
            return high  # full rank is exact, and never costs more than it saves
        while low < high:
            middle = (low + high) // 2
            if self.cost(middle, target) >= target.dense:
                high = middle
            else:
                low = middle + 1
        return low
