"""What a schedule is: which rate applies at which forward step of a generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from flrc.component import Component


@dataclass(frozen=True)
class Phase:
    """A stretch of forward steps at one rate.

    Attributes:
        begin: Where it begins, as a share of the nominal number of forward steps, in [0, 1).
        rate: Requested rate during the phase, in [0, 1).
        step: The forward step at which it begins, 0 for the prefill, where that is what was chosen;
            then ``begin`` counts for nothing.
    """

    begin: float
    rate: float
    step: int | None = None


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


def first_steps(phases: list[Phase], steps: int) -> list[int]:
    """The 0-based forward step at which each phase begins, of at most ``steps`` steps.

    The boundary ``begin * steps`` is rounded to the nearest step, unless a phase names its step.
    """
    return [
        int(phase.begin * steps + 0.5) if phase.step is None else min(phase.step, steps)
        for phase in phases
    ]
