"""Makes the plans of one run: the constant one, and one for each phase of the schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.dead_targets import dead_ranks
from flrc.allocator.evidence import Evidence
from flrc.errors import UserError
from flrc.form.base import Form
from flrc.plans.phase import Phase
from flrc.plans.rank_plan import RankPlan, plan_cost
from flrc.plans.target import Target


@dataclass
class Planner:
    """Ranks of one compression at any rate; plans are remembered."""

    allocator: Allocator
    targets: Sequence[Target]
    form: Form
    evidence: Evidence
    _constant: dict[float, RankPlan] = field(default_factory=dict, init=False)
    _phases: dict[tuple[float, ...], RankPlan] = field(default_factory=dict, init=False)

    def constant(self, rate: float) -> RankPlan:
        """The plan at a rate, which need not nest in another."""
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
            # All rates below a phase's own decide what it must nest in.
            rates = (*rates, rate)
            if rates not in self._phases:
                self._phases[rates] = self._allocate(rate, within, phase=True)
            within = by_rate[rate] = self._phases[rates]
        return [(phase, by_rate[phase.rate]) for phase in phases]

    def _allocate(
        self, rate: float, within: RankPlan | None = None, *, phase: bool = False
    ) -> RankPlan:
        if self.evidence.kept and self.allocator.ALLOCATES:
            return self._allocate_around_dead(rate, within, phase)
        budget = self.allocator.budget(self.targets, self.form, rate, within)
        return self.allocator.allocate(self.evidence, replace(budget, phase=phase))

    def _allocate_around_dead(self, rate: float, within: RankPlan | None, phase: bool) -> RankPlan:
        """The plan of an allocator that sees only targets that are not dead.

        It gives them ranks at the rate at which they and the dead ones together meet the requested
        one. So no allocator meets an empty spectrum or a score of 0.

        Raises:
            UserError: If the others cannot make up for the dead targets that stay dense.
        """
        allocator, targets, form = self.allocator, self.targets, self.form
        whole = Budget.of(targets, form, rate)
        others = [target for target in targets if target.name not in self.evidence.kept]
        dense = sum(target.dense for target in others)
        bounds = Budget.of(others, form, rate, within=within)
        spare = whole.dense - dense + bounds.total(bounds.upper) - whole.parameters
        ranks = dead_ranks(targets, self.evidence.kept, spare, within)
        spent = sum(plan_cost(t, ranks[t.name], form) for t in targets if t.name in ranks)
        left = whole.parameters - spent
        exact = True
        if left >= dense:
            ranks |= {target.name: None for target in others}
        else:
            others_rate = min(1 - left / dense, 1.0) if dense else 1.0
            budget = allocator.budget(others, form, others_rate, within)
            least = budget.total(budget.lower)
            if least > left:
                raise _unreachable(rate, ranks, f"rate up to {whole.rate_of(spent + least):.4f}")
            try:
                plan = allocator.allocate(self.evidence, replace(budget, phase=phase))
            except UserError as error:
                needed = f"for the others, which would need rate={others_rate:.4f}"
                allowed = f"{needed}: {error.allowed}"
                raise _unreachable(rate, ranks, allowed, f": {error.problem}") from error
            ranks |= plan.ranks
            exact = plan.exact
        named = {target.name: ranks[target.name] for target in targets}
        return RankPlan.of(rate, named, targets, form, exact)


def _unreachable(
    rate: float, dead: Mapping[str, int | None], allowed: str, problem: str = ""
) -> UserError:
    names = [name for name, rank in dead.items() if rank is None]
    some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return UserError(
        f"the rate cannot be reached while dead layers stay dense{problem}",
        given=f"rate={rate:g}; {len(names)} dead layers stay dense: {some}",
        allowed=allowed,
        fix="a lower rate, or calibration data that activate these layers",
    )
