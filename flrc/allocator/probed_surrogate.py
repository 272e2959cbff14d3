"""LEMS: spectra scaled to one measured divergence per target, minimised in sum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from flrc.allocator.base import ProbingAllocator
from flrc.allocator.budget import Budget, solve
from flrc.allocator.keep_ratios import real_ranks
from flrc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.allocator.divergence import Divergence
    from flrc.allocator.evidence import Evidence
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.target import Target


@dataclass
class ProbedSurrogate(ProbingAllocator):
    """Minimises the sum over targets of ``e(k) = KL_10 (1 - E(k)/E) / (1 - E(k0)/E) d_b``.

    ``E(k)`` is the energy of the first ``k`` singular values, ``k0`` the rank at 10 % of the dense
    parameters, ``KL_10`` the measured KL divergence with only this target truncated to ``k0``. The
    depth factor ``d_b = 1 + gamma S_b / S_0``, ``S_b = sum over blocks j >= b of (j + 1)^-alpha``,
    gives early blocks more weight; ``alpha`` and ``gamma`` are those of the trial whose whole plan
    diverges least. A target stays dense (error 0) or takes a rank that is a multiple of 8 within a
    range of keep ratios.

    Source: LEMS (ICML 2026), in the code of KFAC-SVD.
    Differs: the sum is minimised by bisecting one Lagrange multiplier instead of solving an integer
        program (Gurobi). The remaining parameters then go rank by rank to single targets, greatest
        gain first, so that the rate is met exactly; those targets' ranks are not multiples of 8.

    Attributes:
        probe_ratio: Keep ratio at which each target is measured.
        multiple: Ranks are multiples of this, except those of the few targets that take the
            remainder.
        ratios: Lowest and highest keep ratio of a compressed target, at rates up to 0.5.
        ratios_high: As ``ratios``, at rates above 0.5.
        alpha: Largest exponent of the depth factor; the smallest is 0.
        gamma: Largest weight of the depth factor; the smallest is 0.
        trials: Number of complete plans that are measured; the sampler, TPE, draws its first ten at
            random.
        seed: Seed of the sampler.
    """

    name: str = "probed_surrogate"
    probe_ratio: float = 0.1
    multiple: int = 8
    ratios: list[float] = field(default_factory=lambda: [0.3, 0.95])
    ratios_high: list[float] = field(default_factory=lambda: [0.1, 0.95])
    alpha: float = 3.0
    gamma: float = 7.0
    trials: int = 10
    seed: int = 0
    samples: int | None = 32

    NEEDS: ClassVar[tuple[str, ...]] = ("optuna",)
    SPECTRAL: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks the ratios, the depth factor and the search."""
        super().check()
        self.require(0 < self.probe_ratio < 1, "probe_ratio", "a number above 0 and below 1")
        self.require(self.multiple >= 1, "multiple", "an integer of at least 1")
        for name in ("ratios", "ratios_high"):
            ends = getattr(self, name)
            ordered = len(ends) == 2 and 0 <= ends[0] < ends[1] <= 1
            self.require(ordered, name, "two numbers in [0, 1], the lower one first")
        self.require(self.alpha > 0, "alpha", "a number above 0")
        self.require(self.gamma > 0, "gamma", "a number above 0")
        self.require(self.trials >= 1, "trials", "an integer of at least 1")
        self.require(self.seed >= 0, "seed", "an integer of at least 0")

    def check_budget(self, budget: Budget) -> None:
        """Also checks that the cheapest choices reach the rate."""
        super().check_budget(budget)
        self.choices(budget)

    def choices(self, budget: Budget) -> list[list[int]]:
        """The ranks that each target may be truncated to.

        Raises:
            UserError: If even the cheapest of them exceed the budget.
        """
        ends = "ratios" if budget.rate <= 0.5 else "ratios_high"
        lowest, highest = getattr(self, ends)
        choices, smallest = [], 0
        for i, target in enumerate(budget.targets):
            multiples = range(self.multiple, budget.dense_ranks[i], self.multiple)
            ratios = (budget.form.cost(k, target) / target.dense for k in multiples)
            pairs = zip(multiples, ratios, strict=True)
            ranks = [k for k, ratio in pairs if lowest <= ratio <= highest]
            choices.append(ranks)
            within = [k for k in ranks if budget.lower[i] <= k <= budget.upper[i]]
            smallest += budget.cost(i, min(within, default=budget.upper[i]))
        budget.require(
            smallest,
            "the lowest allowed ranks do not reach the rate",
            f"ratios of at least {lowest:g}, multiples of {self.multiple}",
            f"a lower allocator.{ends}, or allocator.multiple=1",
        )
        return choices

    def measurements(self) -> tuple[int, int]:
        """Each target once, and one plan for each trial."""
        return 1, self.trials

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The plan with the least surrogate error, under the depth factor of the best trial."""
        from flrc.allocator.optuna_search import best_trial

        choices = self.choices(budget)
        names = [target.name for target in budget.targets]
        ranks = real_ranks(budget, [self.probe_ratio] * len(names))
        candidates = {name: [max(1, int(k))] for name, k in zip(names, ranks, strict=True)}
        probe = evidence.probe(self.samples)
        probe.announce(self.name, candidates, plans=self.trials)
        measured = probe.single(candidates)
        errors = [
            surrogate(evidence.spectrum(n), candidates[n][0], measured[n][0], n) for n in names
        ]

        def plan(values: Mapping[str, float]) -> RankPlan:
            depth = depth_factors(budget.targets, values["alpha"], values["gamma"])
            losses = [d * error for d, error in zip(depth, errors, strict=True)]
            return filled_least_loss_plan(budget, losses, choices, self.multiple)

        best = best_trial(
            self.trials,
            {"alpha": (0.0, self.alpha), "gamma": (0.0, self.gamma)},
            lambda values: probe.plan(plan(values).ranks).kl,
            "TPESampler",
            seed=self.seed,
            doing="searching the depth factor, trial by trial",
        )
        return plan(best)


def surrogate(spectrum: Tensor, rank: int, measured: Divergence, name: str) -> Tensor:
    """The error ``(r + 1,)`` at rank 0, 1, ... r, without the depth factor.

    Singular values are ``(r,)``; ``rank`` is ``k0``, at which the target ``name`` was measured.

    Raises:
        UserError: If the divergence is not finite.
    """
    from flrc.decomposition.factors import truncation_losses

    if not math.isfinite(measured.kl):
        raise UserError(
            f"the model gives no finite numbers with only {name} truncated to rank {rank}",
            given=f"KL {measured.kl}",
            allowed="a finite divergence",
            fix="dtype=float32, or another decomposition",
        )
    losses = truncation_losses(spectrum)
    at_rank = float(losses[rank])
    # Where that rank drops nothing, truncation costs nothing, whatever was measured.
    return losses * (max(measured.kl, 0.0) / at_rank if at_rank > 0 else 0.0)


def depth_factors(targets: Sequence[Target], alpha: float, gamma: float) -> list[float]:
    """``d_b = 1 + gamma S_b / S_0`` by target: ``1 + gamma`` in the first block, then falling."""
    blocks = max(target.block for target in targets) + 1
    tails = [sum((j + 1) ** -alpha for j in range(b, blocks)) for b in range(blocks)]
    return [1 + gamma * tails[target.block] / tails[0] for target in targets]


def filled_least_loss_plan(
    budget: Budget, losses: Sequence[Tensor], choices: Sequence[Sequence[int]], multiple: int
) -> RankPlan:
    """The plan with the least total loss among the choices, then filled up to the exact rate.

    What the choices leave unused goes to one target after another, at most ``multiple`` ranks each,
    in descending order of the loss that the next rank saves per parameter.
    """
    from flrc.allocator.least_loss import least_loss_plan

    named = least_loss_plan(budget, losses, choices).ranks
    chosen = [
        dense if (rank := named[target.name]) is None else rank
        for target, dense in zip(budget.targets, budget.dense_ranks, strict=True)
    ]

    def gain(i: int) -> float:
        k = chosen[i]
        if k >= budget.upper[i]:
            return -1.0
        saved = float(losses[i][k] - losses[i][min(k + 1, len(losses[i]) - 1)])
        return saved / budget.step(i, k)

    order = sorted(range(len(chosen)), key=lambda i: (-gain(i), i))
    place = {i: position for position, i in enumerate(order)}

    def ranks_at(scale: float) -> list[float]:
        shares = (scale - multiple * place[i] for i in range(len(chosen)))
        return [k + min(max(s, 0), multiple) for k, s in zip(chosen, shares, strict=True)]

    return solve(budget, ranks_at)
