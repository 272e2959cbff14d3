"""Plain PyTorch modules."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.runtime.base import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from flrc.plans.target import Target


@dataclass
class Eager(Runtime):
    """The reference runtime: no compilation, no offloading."""

    name: str = "eager"

    @contextmanager
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> Iterator[None]:
        """See :class:`~flrc.runtime.base.Runtime`; the whole model is on its device."""
        from flrc.models.anatomy.placement import settle

        settle(model)
        model.eval()
        yield
