"""Fits the factors to the run's plan, through the stage cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flrc.core.cache import locked
from flrc.refine.factor_store import RefinedFactors, refined_factors
from flrc.running.factors import statistics_of

if TYPE_CHECKING:
    from flrc.plans.rank_plan import RankPlan
    from flrc.running.context import Context


def refine(context: Context, plan: RankPlan) -> RefinedFactors | None:
    """The factors fitted to the plan; None if they are used as they were decomposed."""
    refinement = context.config.refine
    if not refinement.REFINES:
        return None
    entry, statistics = context.entries.refined(plan), statistics_of(context)
    with (
        locked(entry, statistics.inputs, statistics.outputs),
        context.stages("refinement") as stage,
    ):
        stage.cached = entry.done
        return refined_factors(refinement, statistics, plan, entry)
