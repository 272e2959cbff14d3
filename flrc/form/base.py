"""What a form is: how factors are stored, and what a rank costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component
from flrc.core.demand import Demand

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flrc.plans.target import Target


@dataclass
class Form(Component, ABC):
    """Storage of factors of one target."""

    NESTED: ClassVar[bool] = True
    """Whether the first ranks of a layer are its answer at a lower rank. If not, a schedule stores
    the factors of each rank that it uses."""

    @abstractmethod
    def cost(self, rank: int, target: Target) -> int:
        """Parameters that a forward step reads at ``rank``; strictly increasing in the rank."""

    @abstractmethod
    def build(
        self, left_t: Tensor, right: Tensor, linears: Sequence[nn.Linear], keep_dense: bool
    ) -> list[nn.Module]:
        """The layers that hold these factors, one for each layer of the target.

        Args:
            left_t: ``(r, d_out)`` in full precision, with the outputs of a group's layers
                concatenated. Rounding to the model's dtype is the form's last step.
            right: ``(r, d_in)``, likewise; shared by all layers of a group and stored once.
            linears: The dense layers that are replaced, in the order of ``target.layers``; their
                biases are kept.
            keep_dense: Whether to keep the dense weights too, for phases in which they are used.
        """

    def demand(self, rank: int, target: Target) -> Demand:
        """What :meth:`build` takes at a rank; reads no factor."""
        size = 8 * rank * (target.d_out + target.d_in)
        return Demand(moved=2 * size, held=size)

    def index_bytes(self, rank: int, target: Target) -> int:
        """Bytes of integers stored besides the parameters; recorded, not counted as parameters."""
        return 0

    def dense_rank(self, target: Target) -> int:
        """The break-even rank, the smallest that costs at least the dense weight.

        From this rank on a layer stays dense, as in FLRC (section 3.1): it would only grow.
        """
        # If every rank saves parameters it is full rank, which is exact: dense is as good.
        full = min(target.d_out, target.d_in)
        return 1 + bisect_left(
            range(1, full), target.dense, key=lambda rank: self.cost(rank, target)
        )
