"""Scores and spectra to ranks, at the run's rate and in each phase of its schedule."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flrc.allocator.dead_targets import dead_targets
from flrc.allocator.evidence import Evidence
from flrc.allocator.planner import Planner
from flrc.allocator.probe_cache import ProbeCache
from flrc.plans.run_plans import Plans
from flrc.search.base import Compression, SearchResult
from flrc.search.none import NoSearch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flrc.decomposition.factor_store import StoredFactors
    from flrc.running.context import Context

log = logging.getLogger(__name__)


def allocate(
    context: Context, factors: StoredFactors, scores: Mapping[str, float]
) -> tuple[Planner, dict[str, Any]]:
    """Ranks for the requested rate (eq. 2), and for any other.

    Returns:
        The planner, which gives ranks for any rate, and the cost of measuring the model for it.
    """
    config = context.config
    with context.stages("allocation"):
        probes = ProbeCache(context.dense, factors.factors, context.entries.probes())
        dead = dead_targets(scores, factors.kept())
        evidence = Evidence(scores, factors.spectrum, probes, dead)
        planner = Planner(config.allocator, context.dense.targets, config.form, evidence)
        planner.constant(config.rate)
        return planner, probes.cost()


def schedule(
    context: Context, factors: StoredFactors, planner: Planner
) -> tuple[Plans, SearchResult]:
    """The phases, given or searched, and their ranks (eq. 3); none while the search is deferred."""
    config = context.config
    with context.stages("schedule"):
        constant = planner.constant(config.rate)
        if config.searches and not context.searches:
            log.info("the schedule is searched once text is generated or the model is saved")
            return Plans(constant, []), SearchResult([])
        compression = Compression(
            context.dense,
            context.tokenizer,
            config.data,
            planner,
            factors.factors,
            context.entries.replies(),
        )
        search = config.search if config.searches else NoSearch()
        result = search.search(config.schedule, config.rate, compression)
        return Plans(constant, planner.phases(result.phases), result.candidates), result
