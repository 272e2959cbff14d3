"""What a form is: how factors are stored, and what a rank costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.plans.target import Target


@dataclass
class Form(Component, ABC):
    """Storage of factors of one target."""

    NESTED: ClassVar[bool] = True
    """Whether a built layer's first ranks are the answer at that rank; without it a schedule stores
    every rank that it asks for."""

    @abstractmethod
    def cost(self, rank: int, target: Target) -> int:
        """Parameters that a forward step reads at ``rank``; strictly increasing in the rank."""

    @abstractmethod
    def build(
        self, left_t: Tensor, right: Tensor, linears: Sequence[nn.Linear], keep_dense: bool
    ) -> list[nn.Module]:
        """The layers that hold these factors, one for each layer of the target.

        Args:
            left_t: ``(r, d_out)``, as precise as it is known; for a group the outputs of its layers
                one after another. The form rounds to the model's dtype, last of all.
            right: ``(r, d_in)``, likewise; shared by all layers of a group: it is stored once.
            linears: The dense layers that are replaced, in the order of ``target.layers``; their
                biases stay on the outputs.
            keep_dense: Whether the layers keep their dense weights too, for a phase that is dense.
        """

    def index_bytes(self, rank: int, target: Target) -> int:
        """Bytes of integers stored beside the parameters; they are no parameters, and are told."""
        return 0

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
