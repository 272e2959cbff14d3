"""Dead targets have their ranks before any is allocated; the others share what is left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flrc.allocator.budget import Budget
from flrc.decomposition.factors import DENSE, ZERO
from flrc.errors import UserError
from flrc.plans.rank_plan import RankPlan, plan_cost

if TYPE_CHECKING:
    from flrc.allocator.base import Allocator
    from flrc.allocator.evidence import Evidence
    from flrc.form.base import Form
    from flrc.plans.target import Target

Ranks = dict[str, int | None]


def dead_targets(scores: Mapping[str, float], kept: Mapping[str, str]) -> dict[str, str]:
    """Those of the decomposition, and those whose score is 0 or not finite: these stay dense.

    A score is 0 where no gradient of the calibration loss reaches a layer, and infinite where one
    overflowed: nothing is known then of what its ranks are worth, and in proportion to 0 it would
    lose all but the last of them.

    Args:
        scores: By target name; empty where none are read.
        kept: Dead targets of the decomposition, by name: ``zero`` or ``dense``.
    """
    silent = (name for name, score in scores.items() if score == 0 or not math.isfinite(score))
    return dict.fromkeys(silent, DENSE) | dict(kept)


def settled(
    targets: Sequence[Target], kept: Mapping[str, str], spare: int, within: RankPlan | None = None
) -> Ranks:
    """Ranks of the dead targets: 0 where the output is 0, None (dense) elsewhere.

    Rank 0 must not save more than is asked for, else the rate would be missed: in model order, as
    many as ``spare`` holds have rank 0, and those after them stay dense. So a higher rate never
    gives one of them more ranks than a lower one, and the phases of a schedule nest.

    Args:
        targets: All targets.
        kept: Dead ones by name: ``zero`` or ``dense``.
        spare: Parameters that may go with every dead target dense, so that the others can still use
            the rest.
        within: Plan at a lower rate that the answer must nest in.
    """
    ranks: Ranks = {}
    for target in targets:
        how = kept.get(target.name)
        if how is None:
            continue
        spare -= target.dense if how == ZERO else 0
        before = None if within is None else within.ranks[target.name]
        ranks[target.name] = 0 if how == ZERO and (spare >= 0 or before == 0) else None
    return ranks


def allocate_around(
    allocator: Allocator,
    targets: Sequence[Target],
    form: Form,
    evidence: Evidence,
    rate: float,
    within: RankPlan | None,
    phase: bool,
) -> RankPlan:
    """The plan of an allocator that sees only targets that are not dead.

    It gives them ranks at the rate at which they, and the dead ones as they are, together meet the
    requested one. No allocator so meets a spectrum or a score without anything in it.

    Args:
        allocator: How ranks are given.
        targets: All targets.
        form: What a rank costs.
        evidence: What is known of them, and which are dead.
        rate: Of all targets.
        within: Plan at a lower rate that the answer must nest in.
        phase: Whether this is a phase of a schedule.

    Raises:
        UserError: If the others cannot make up for the dead targets that stay dense.
    """
    whole = Budget.of(targets, form, rate)
    others = [target for target in targets if target.name not in evidence.kept]
    dense = sum(target.dense for target in others)
    bounds = Budget.of(others, form, rate, within=within)
    spare = whole.dense - dense + bounds.total(bounds.upper) - whole.parameters
    ranks = settled(targets, evidence.kept, spare, within)
    spent = sum(plan_cost(t, ranks[t.name], form) for t in targets if t.name in ranks)
    left = whole.parameters - spent

    def unreachable(problem: str, allowed: object) -> UserError:
        names = [name for name, rank in ranks.items() if rank is None]
        some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        return UserError(
            f"the rate cannot be reached while dead layers stay dense{problem}",
            given=f"rate={rate:g}; {len(names)} dead layers stay dense: {some}",
            allowed=str(allowed),
            fix="a lower rate, or calibration data on which these layers do something",
        )

    exact = True
    if left >= dense:
        ranks |= {target.name: None for target in others}
    else:
        others_rate = min(1 - left / dense, 1.0) if dense else 1.0
        budget = allocator.budget(others, form, others_rate, within)
        least = budget.total(budget.lower)
        if least > left:
            raise unreachable("", f"rate up to {whole.rate_of(spent + least):.4f}")
        try:
            plan = allocator.allocate(evidence, replace(budget, phase=phase))
        except UserError as error:
            other = f"of the others, which would need rate={others_rate:.4f}: {error.allowed}"
            raise unreachable(f": {error.problem}", other) from error
        ranks |= plan.ranks
        exact = plan.exact
    named = {target.name: ranks[target.name] for target in targets}
    return RankPlan.of(rate, named, targets, form, exact)
