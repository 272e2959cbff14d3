"""What a runtime is: a way to execute a compressed model."""

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
    """A way to execute a model.

    Attributes:
        CONSUMES: Whether the model is of no use afterwards.
    """

    CONSUMES: ClassVar[bool] = False

    def check_device(self, device: torch.device) -> None:
        """Raise UserError unless the runtime supports the device; called before any work."""

    def check_memory(self, dense: int, stays: int) -> None:
        """Raise UserError if the memory limit is too small; called before any work.

        Both are bytes: of the whole dense model, and of the parameters that are not targets.
        """

    @abstractmethod
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> AbstractContextManager[None]:
        """Inside, the model runs this way; a runtime that ``CONSUMES`` it leaves it unusable.

        The model, compressed or dense, is changed in place. ``targets`` are the layers that can be
        compressed, ``dense_bytes`` those of the whole dense model.
        """
