"""Bolaco: one keep ratio per kind of layer, by Bayesian optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from flrc.allocator.base import ProbingAllocator
from flrc.allocator.budget import Budget, solve
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import real_ranks
from flrc.errors import UserError
from flrc.form.base import Form
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target

KINDS = (("q_proj", "k_proj"), ("o_proj",), ("gate_proj",), ("up_proj",), ("down_proj",))


@dataclass
class Bayesian(ProbingAllocator):
    """A keep ratio per kind of projection, shared by all blocks, found by measuring whole models.

    Each trial draws a ratio per kind. The layers then keep parameters in these proportions, scaled
    by one common factor that meets the rate exactly. The trial with the lowest ``perplexity +
    kl_weight * KL(dense || truncated)`` is chosen. Kinds not named (``v_proj``) stay dense.

    Source: Bolaco (arXiv 2405.10616), only its search for ratios, not its feature-based
        decomposition.
    Differs: Optuna's Gaussian-process sampler instead of OpenBox's. The published constraint (the
        weighted ratios at most 0.1 below the target) becomes an equality: drawn ratios are
        proportions, so a layer may end up below 0.2, or dense. Ranks are not rounded to multiples
        of 8. Models are measured on the run's calibration sequences instead of Wikipedia; KL is a
        mean in nats per token.

    Attributes:
        kinds: Projections that share a keep ratio; all others (``v_proj``) stay dense.
        lowest: Lowest ratio that is drawn; the highest is 1. Ratios are relative: one common factor
            on all of them meets the rate.
        trials: Number of models that are measured.
        kl_weight: Weight of the KL divergence from the dense model, relative to the perplexity.
        seed: Seed of the sampler.
    """

    name: str = "bayesian"
    kinds: list[list[str]] = field(default_factory=lambda: [[*kind] for kind in KINDS])
    lowest: float = 0.2
    trials: int = 50
    kl_weight: float = 1e-3
    seed: int = 0

    NEEDS: ClassVar[tuple[str, ...]] = ("optuna",)

    def check(self) -> None:
        """Also checks that kinds do not overlap, and the ranges of the search."""
        super().check()
        named = [projection for kind in self.kinds for projection in kind]
        distinct = bool(self.kinds) and all(self.kinds) and len(set(named)) == len(named)
        allowed = "non-empty lists of projections, each projection in one list"
        self.require(distinct, "kinds", allowed)
        self.require(0 < self.lowest < 1, "lowest", "a number above 0 and below 1")
        self.require(self.trials >= 1, "trials", "an integer of at least 1")
        self.require(self.kl_weight >= 0, "kl_weight", "a number of at least 0")
        self.require(self.seed >= 0, "seed", "an integer of at least 0")

    def check_reachable(self, targets: Sequence[Target], form: Form, rate: float) -> None:
        """Also checks that all kinds exist."""
        existing = {target.projection for target in targets}
        missing = [p for kind in self.kinds for p in kind if p not in existing]
        if missing:
            raise UserError(
                f"allocator={self.name} names projections that are not targets of this model",
                given=", ".join(missing),
                allowed=existing,
                fix="grouping=separate, or allocator.kinds with this model's names",
            )
        super().check_reachable(targets, form, rate)

    def check_budget(self, budget: Budget) -> None:
        """Also checks that the rate can be reached while the other projections stay dense."""
        super().check_budget(budget)
        searched = {projection for kind in self.kinds for projection in kind}
        dense = sorted({target.projection for target in budget.targets} - searched)
        budget.require(
            budget.total(budget.clip(self._ranks(budget, [0.0] * len(self.kinds)))),
            "the rate cannot be reached while some projections stay dense",
            f"dense: {', '.join(dense)}",
            "name more projections in allocator.kinds, or lower the rate",
        )

    def _ranks(self, budget: Budget, ratios: Sequence[float]) -> list[float]:
        """Real ranks with these ratios by kind, all others dense."""
        by_name = {p: r for kind, r in zip(self.kinds, ratios, strict=True) for p in kind}
        return real_ranks(budget, [by_name.get(t.projection, 1.0) for t in budget.targets])

    def plan(self, budget: Budget, ratios: Sequence[float]) -> RankPlan:
        """The plan that keeps parameters in these proportions by kind."""
        return solve(budget, lambda scale: self._ranks(budget, [scale * r for r in ratios]))

    def measurements(self) -> tuple[int, int]:
        """One plan for each trial."""
        return 0, self.trials

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The plan of the best trial."""
        from flrc.allocator.optuna_search import best_trial

        self.check_budget(budget)
        probe = evidence.probe(self.samples)
        probe.announce(self.name, plans=self.trials)
        space = {"+".join(kind): (self.lowest, 1.0) for kind in self.kinds}

        def objective(values: dict[str, float]) -> float:
            divergence = probe.plan(self.plan(budget, list(values.values())).ranks)
            return divergence.perplexity + self.kl_weight * divergence.kl

        doing = "searching ratios"
        best = best_trial(self.trials, space, objective, "GPSampler", seed=self.seed, doing=doing)
        return self.plan(budget, list(best.values()))
