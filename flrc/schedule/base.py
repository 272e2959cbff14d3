"""What a schedule is: which rate applies at which forward step of a generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from flrc.core.component import Component
from flrc.plans.phase import Phase


@dataclass
class Schedule(Component, ABC):
    """Forward step -> rate. Step 1 is the prefill, which yields the first token."""

    DIRECTION: ClassVar[int] = 0
    """1 if rates grow during a generation, -1 if they fall, 0 if they never change."""

    @abstractmethod
    def phases(self, rate: float) -> list[Phase]:
        """The phases whose nominal average over forward steps is ``rate``; the first begins at 0.

        Raises:
            UserError: If a phase's rate would leave [0, 1).
        """
