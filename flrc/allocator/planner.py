"""Makes the plans of one run: the constant one, and one for each phase of the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flrc.allocator.settled import allocate_around
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans

if TYPE_CHECKING:
    from flrc.allocator.base import Allocator
    from flrc.allocator.evidence import Evidence
    from flrc.form.base import Form
    from flrc.plans.phase import Phase
    from flrc.plans.target import Target
    from flrc.schedule.base import Schedule


class Planner:
    """Ranks of one compression at any rate; what was allocated once is remembered.

    Args:
        allocator: How ranks are given.
        targets: The layers, or groups of them.
        form: What a rank costs.
        evidence: What is known of the targets.
    """

    def __init__(
        self, allocator: Allocator, targets: Sequence[Target], form: Form, evidence: Evidence
    ) -> None:
        self.allocator = allocator
        self.targets = targets
        self.form = form
        self.evidence = evidence
        self._constant: dict[float, RankPlan] = {}
        self._phases: dict[tuple[float, ...], RankPlan] = {}

    def constant(self, rate: float) -> RankPlan:
        """The plan at a rate, bound by no other."""
        if rate not in self._constant:
            self._constant[rate] = self._allocate(rate)
        return self._constant[rate]

    def phases(self, phases: Sequence[Phase]) -> list[tuple[Phase, RankPlan]]:
        """A plan for each phase, lowest rate first, each within the last.

        They nest because a phase switch may only drop ranks; the constant plan need not nest in
        them.

        Raises:
            UserError: If a rate cannot be reached.
        """
        if len(phases) == 1:
            return [(phases[0], self.constant(phases[0].rate))]
        by_rate: dict[float, RankPlan] = {}
        within: RankPlan | None = None
        rates: tuple[float, ...] = ()
        for rate in sorted({phase.rate for phase in phases}):
            # What a phase is bound by is decided by all rates below its own.
            rates = (*rates, rate)
            if rates not in self._phases:
                self._phases[rates] = self._allocate(rate, within, phase=True)
            within = by_rate[rate] = self._phases[rates]
        return [(phase, by_rate[phase.rate]) for phase in phases]

    def _allocate(
        self, rate: float, within: RankPlan | None = None, *, phase: bool = False
    ) -> RankPlan:
        allocator, targets, form, evidence = (
            self.allocator, self.targets, self.form, self.evidence
        )  # fmt: skip
        if evidence.kept and allocator.ALLOCATES:
            return allocate_around(allocator, targets, form, evidence, rate, within, phase)
        budget = replace(allocator.budget(targets, form, rate, within), phase=phase)
        return allocator.allocate(evidence, budget)


def make_plans(
    allocator: Allocator,
    schedule: Schedule,
    targets: Sequence[Target],
    form: Form,
    evidence: Evidence,
    rate: float,
) -> Plans:
    """The constant plan, and those of the schedule's own phases."""
    planner = Planner(allocator, targets, form, evidence)
    return Plans(planner.constant(rate), planner.phases(schedule.phases(rate)))
