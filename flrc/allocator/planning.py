"""All plans of one run: the constant one, and one for each phase of the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flrc.allocator.plan import RankPlan
from flrc.schedule.base import Phase

if TYPE_CHECKING:
    from flrc.allocator.base import Allocator
    from flrc.allocator.evidence import Evidence
    from flrc.form.base import Form
    from flrc.models.targets import Target
    from flrc.schedule.base import Schedule


@dataclass(frozen=True)
class Plans:
    """Ranks of a run.

    Attributes:
        constant: The plan at the requested rate; prefill-only evaluations run on it.
        phases: The schedule's phases with their plans, in order; they nest.
    """

    constant: RankPlan
    phases: list[tuple[Phase, RankPlan]]

    @property
    def all(self) -> list[RankPlan]:
        """Every plan that the model must be able to run."""
        return [self.constant, *(plan for _, plan in self.phases)]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values (``plan.json``)."""
        return {
            "constant": self.constant.to_json(),
            "phases": [
                {"begin": phase.begin, "rate": phase.rate, "plan": plan.to_json()}
                for phase, plan in self.phases
            ],
        }


def make_plans(
    allocator: Allocator,
    schedule: Schedule,
    targets: Sequence[Target],
    form: Form,
    evidence: Evidence,
    rate: float,
) -> Plans:
    """Allocate the constant plan, then the phases, lowest rate first, each within the last.

    The phases nest because a phase switch may only drop ranks; the constant plan need not nest in
    them.
    """
    constant = allocator.allocate(evidence, allocator.budget(targets, form, rate))
    phases = schedule.phases(rate)
    if len(phases) == 1:
        return Plans(constant, [(phases[0], constant)])
    by_rate: dict[float, RankPlan] = {}
    within: RankPlan | None = None
    for phase_rate in sorted({phase.rate for phase in phases}):
        budget = replace(allocator.budget(targets, form, phase_rate, within), phase=True)
        within = allocator.allocate(evidence, budget)
        by_rate[phase_rate] = within
    return Plans(constant, [(phase, by_rate[phase.rate]) for phase in phases])
