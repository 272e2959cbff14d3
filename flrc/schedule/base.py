"""What a schedule is: which rate applies at which forward step of a generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from flrc.core.component import Component
from flrc.plans.phase import Phase


@dataclass
class Schedule(Component, ABC):
    """The rate at each forward step. Step 1 is the prefill, which yields the first token."""

    DIRECTION: ClassVar[int] = 0
    """1 if rates rise during generation, -1 if they fall, 0 if they never change."""

    @abstractmethod
    def phases(self, rate: float) -> list[Phase]:
        """Phases whose nominal average rate over forward steps is ``rate``; the first begins at 0.

        Raises:
            UserError: If a phase's rate would leave [0, 1).
        """
