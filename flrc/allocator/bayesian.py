"""Bolaco: one ratio per kind of layer, by Bayesian optimisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flrc.allocator.base import ProbingAllocator
from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.allocator.budget import Budget
    from flrc.allocator.evidence import Evidence
    from flrc.form.base import Form
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.target import Target


@dataclass
class Bayesian(ProbingAllocator):
    """A keep ratio per kind of projection, the same in all blocks, found by measuring whole models.

    Each trial draws a ratio per kind; the layers then keep parameters in these proportions, one
    factor on all of them meeting the rate exactly. Kept is the trial with the least ``perplexity +
    kl_weight * KL(dense || cut)``. Kinds that are not named (``v_proj``) stay dense.

    Source: Bolaco (arXiv 2405.10616), its search of ratios; its feature-based decomposition is not
        part of it.
    Differs: Optuna's Gaussian-process sampler instead of OpenBox's. The published constraint (the
        weighted ratios within 0.1 below the target) becomes an equality: drawn ratios are
        proportions, so a layer may end below 0.2, or dense. Ranks are not rounded to multiples of
        8. Measured on calibration sequences of the run, not on Wikipedia; KL is a mean in nats per
        token.

    Attributes:
        kinds: Projections that share a keep ratio; all others (``v_proj``) stay dense.
        lowest: Lowest ratio that is drawn; the highest is 1. Ratios are relative: one common factor
            on all of them meets the rate.
        trials: Number of models that are measured.
        kl_weight: Weight of the KL divergence from the dense model, relative to the perplexity.
        seed: Seed of the sampler.
    """

    name: str = "bayesian"
    kinds: list[list[str]] = field(
        default_factory=lambda: [
            ["q_proj", "k_proj"],
            ["o_proj"],
            ["gate_proj"],
            ["up_proj"],
            ["down_proj"],
        ]
    )
    lowest: float = 0.2
    trials: int = 50
    kl_weight: float = 1e-3
    seed: int = 0

    def check(self) -> None:
        """Ranges."""
        super().check()
        named = [projection for kind in self.kinds for projection in kind]
        self.require(
            bool(self.kinds) and all(self.kinds) and len(set(named)) == len(named),
            "kinds",
            "lists of projections, none empty, no projection twice",
        )
        self.require(0 < self.lowest < 1, "lowest", "a number above 0 and below 1")
        self.require(self.trials >= 1, "trials", "a whole number from 1 on")
        self.require(self.kl_weight >= 0, "kl_weight", "a number from 0 on")
        self.require(self.seed >= 0, "seed", "a whole number from 0 on")

    def check_reachable(self, targets: Sequence[Target], form: Form, rate: float) -> None:
        """The kinds must be there, and the rate reachable while all others stay dense."""
        super().check_reachable(targets, form, rate)
        there = {target.projection for target in targets}
        missing = [p for kind in self.kinds for p in kind if p not in there]
        if missing:
            raise UserError(
                f"allocator={self.name} names projections that are no targets of this model",
                given=", ".join(missing),
                allowed=there,
                fix="grouping=separate, or allocator.kinds with the names of this model",
            )
        self._check(self.budget(targets, form, rate))

    def _check(self, budget: Budget) -> None:
        there = {target.projection for target in budget.targets}
        smallest = budget.total(budget.clip(self._ranks(budget, [0.0] * len(self.kinds))))
        if smallest > budget.parameters:
            dense = sorted(there - {p for kind in self.kinds for p in kind})
            raise UserError(
                "the rate cannot be reached while some projections stay dense",
                given=f"rate={budget.rate:g}, dense: {', '.join(dense)}",
                allowed=f"rate up to {budget.rate_of(smallest):.4f}",
                fix="name more projections in allocator.kinds, or lower the rate",
            )

    def _ranks(self, budget: Budget, ratios: Sequence[float]) -> list[float]:
        """Real ranks with these ratios by kind, all others dense."""
        from flrc.allocator.keep_ratios import real_ranks

        by_name = {p: r for kind, r in zip(self.kinds, ratios, strict=True) for p in kind}
        return real_ranks(budget, [by_name.get(t.projection, 1.0) for t in budget.targets])

    def plan(self, budget: Budget, ratios: Sequence[float]) -> RankPlan:
        """The plan that keeps parameters in these proportions by kind."""
        from flrc.allocator.budget import solve

        return solve(budget, lambda scale: self._ranks(budget, [scale * r for r in ratios]))

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The best trial's plan."""
        from flrc.allocator.optuna_search import best_trial

        self._check(budget)
        probe = evidence.probe(self.samples)
        probe.announce(self.name, plans=self.trials)
        space = {"+".join(kind): (self.lowest, 1.0) for kind in self.kinds}

        def objective(values: dict[str, float]) -> float:
            found = probe.plan(self.plan(budget, list(values.values())).ranks)
            return found.perplexity + self.kl_weight * found.kl

        best = best_trial(
            self.trials,
            space,
            objective,
            sampler="gp",
            seed=self.seed,
            doing="searching ratios, trial by trial",
        )
        return self.plan(budget, list(best.values()))
