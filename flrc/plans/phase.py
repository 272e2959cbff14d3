"""Phases of a schedule, and the steps at which they begin (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A range of forward steps at one rate.

    Attributes:
        begin: Its start as a share of the nominal number of forward steps, in [0, 1).
        rate: Requested rate during the phase, in [0, 1).
        step: The forward step at which it begins, 0 for the prefill; if set, ``begin`` is ignored.
    """

    begin: float
    rate: float
    step: int | None = None


def first_steps(phases: list[Phase], steps: int) -> list[int]:
    """The 0-based forward step at which each phase begins, of at most ``steps`` steps.

    The boundary ``begin * steps`` is rounded to the nearest step, unless a phase names its step.
    """
    return [
        int(phase.begin * steps + 0.5) if phase.step is None else min(phase.step, steps)
        for phase in phases
    ]
