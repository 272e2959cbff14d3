"""What a runtime is: how the compressed model is executed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import torch
    from torch import nn

    from flrc.plans.target import Target


@dataclass
class Runtime(Component, ABC):
    """How a model is executed.

    Attributes:
        CONSUMES: Whether the model is of no use afterwards.
    """

    CONSUMES: ClassVar[bool] = False

    def check_device(self, device: torch.device) -> None:
        """Raise UserError unless a model can run this way there; called before any work."""

    def check_memory(self, dense: int, stays: int) -> None:
        """Raise UserError if a model cannot run in the memory that is allowed; before any work.

        Args:
            dense: Bytes of the whole dense model.
            stays: Bytes of what is no target.
        """

    @abstractmethod
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> AbstractContextManager[None]:
        """While active, the model runs this way; where it ``CONSUMES``, not afterwards.

        Args:
            model: Compressed or dense; changed in place.
            targets: What can be compressed.
            dense_bytes: Of the whole dense model.
        """
