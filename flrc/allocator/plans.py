"""All plans of one run: the constant one, and one for each phase of the schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flrc.allocator.plan import RankPlan
from flrc.schedule.phase import Phase, first_steps


@dataclass(frozen=True)
class Plans:
    """Ranks of a run.

    Attributes:
        constant: The plan at the requested rate; prefill-only evaluations run on it.
        phases: The schedule's phases with their plans, in order; they nest.
        candidates: All schedules that competed, where one was searched.
    """

    constant: RankPlan
    phases: list[tuple[Phase, RankPlan]]
    candidates: list[dict[str, Any]] = field(default_factory=list)

    @property
    def all(self) -> list[RankPlan]:
        """Every plan that the model must be able to run."""
        return [self.constant, *(plan for _, plan in self.phases)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values (``plan.json``)."""
        return {
            "constant": self.constant.to_json(),
            "phases": [
                {**phase_json(phase), "rate": phase.rate, "plan": plan.to_json()}
                for phase, plan in self.phases
            ],
            **({"candidates": self.candidates} if self.candidates else {}),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plans:
        """Read :meth:`to_json` back."""
        phases = [
            (
                Phase(phase.get("begin", 0.0), phase["rate"], phase.get("step")),
                RankPlan.from_json(phase["plan"]),
            )
            for phase in values["phases"]
        ]
        constant = RankPlan.from_json(values["constant"])
        return cls(constant, phases, values.get("candidates", []))

    def by_step(self, steps: int) -> dict[int, RankPlan]:
        """The plan of each phase by its first forward step, 0 for the prefill.

        A phase that begins where the next one does has no step; the later one wins.

        Args:
            steps: Longest reply, in tokens.
        """
        starts = first_steps([phase for phase, _ in self.phases], steps)
        return {s: plan for s, (_, plan) in zip(starts, self.phases, strict=True)}


def phase_json(phase: Phase) -> dict[str, Any]:
    """Where a phase begins: a share of the steps, or a step."""
    return {"begin": phase.begin} if phase.step is None else {"step": phase.step}
