"""The plans of a run: the constant one, and those of the phases (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flrc.plans.phase import Phase, first_steps
from flrc.plans.rank_plan import RankPlan, checked_rate


@dataclass(frozen=True)
class Plans:
    """The plans of a run.

    Attributes:
        constant: The plan at the requested rate; prefill-only evaluations use it.
        phases: The schedule's phases with their plans, in order; they nest. Empty while the search
            for them is deferred: the model can then run the constant plan only.
        candidates: All schedules that were compared, if one was searched for.
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
        """Read :meth:`to_json` back.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: If the values are not those of plans.
        """
        phases = phases_from_json(values["phases"])
        if not phases:
            raise ValueError("there are no phases")
        candidates = values.get("candidates", [])
        if not isinstance(candidates, list) or not all(isinstance(c, dict) for c in candidates):
            raise TypeError("the candidates are not a list of objects")
        return cls(RankPlan.from_json(values["constant"]), phases, candidates)

    def by_step(self, steps: int) -> dict[int, RankPlan]:
        """The plan of each phase by its first forward step, 0 for the prefill.

        Of phases that begin at the same step, the last one is used; ``steps`` is the longest reply.

        Raises:
            RuntimeError: If the schedule has not been searched.
        """
        if not self.phases:
            raise RuntimeError(
                "the schedule has not been searched: what generates must say so before the run "
                "(Evaluation.generates)"
            )
        starts = first_steps([phase for phase, _ in self.phases], steps)
        return {s: plan for s, (_, plan) in zip(starts, self.phases, strict=True)}


def phase_json(phase: Phase) -> dict[str, Any]:
    """A phase's start: a share of the steps, or a step."""
    return {"begin": phase.begin} if phase.step is None else {"step": phase.step}


def phases_from_json(values: list[dict[str, Any]]) -> list[tuple[Phase, RankPlan]]:
    """Phases with their plans, in order; the first begins at 0.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: If the values are not those of phases.
    """
    if not isinstance(values, list):
        raise TypeError(f"the phases are a {type(values).__name__}")
    result: list[tuple[Phase, RankPlan]] = []
    least_begin, least_step = 0.0, 0
    for value in values:
        step = value.get("step")
        begin = checked_rate(value["begin"] if step is None else value.get("begin", 0.0))
        if step is None:
            wrong = begin < least_begin or (begin > 0 and not result)
        else:
            wrong = type(step) is not int or step < least_step or (step > 0 and not result)
        if wrong:
            where = begin if step is None else f"step {step!r}"
            raise ValueError(f"phase {len(result) + 1} begins at {where}")
        least_begin, least_step = max(begin, least_begin), max(step or 0, least_step, 1)
        phase = Phase(begin, checked_rate(value["rate"]), step)
        result.append((phase, RankPlan.from_json(value["plan"])))
    return result
