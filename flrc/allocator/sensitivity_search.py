"""ASVD's search: measure every layer at every ratio, then truncate where it hurts least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flrc.allocator.base import ProbingAllocator
from flrc.allocator.budget import Budget, solve
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import real_ranks
from flrc.plans.rank_plan import RankPlan


@dataclass
class SensitivitySearch(ProbingAllocator):
    """Sensitivity-based truncation rank search (STRS).

    For each (target, ratio) the perplexity with only that target truncated is measured on the
    calibration sequences. Entries are sorted by perplexity, worst first. The search finds the index
    from which all entries are applied to meet the rate, each target taking its smallest applied
    ratio. A target that no applied entry names stays dense.

    Source: ASVD (arXiv 2312.05821), section 3.3 and its published code.
    Differs: the published search misses the rate by up to one entry; here the target of the entry
        at the index takes a rank between its two, so that the rate is met. The head is neither
        searched nor counted. A rate that the smallest ratio in all targets does not reach is an
        error; the published code returns what it has.

    Attributes:
        ratios: Keep ratios that are tried in every target.
    """

    name: str = "sensitivity_search"
    ratios: list[float] = field(default_factory=lambda: [0.4, 0.5, 0.6, 0.7, 0.8, 0.9])

    def check(self) -> None:
        """Also checks the ratios."""
        super().check()
        inside = bool(self.ratios) and all(0 < ratio < 1 for ratio in self.ratios)
        self.require(inside, "ratios", "at least one number, each above 0 and below 1")

    def check_budget(self, budget: Budget) -> None:
        """Also checks that the smallest ratio in every target reaches the rate."""
        super().check_budget(budget)
        budget.require(
            budget.total(budget.clip([ranks[0] for ranks in self._candidates(budget)])),
            "the smallest ratio in every layer does not reach the rate",
            f"ratios of at least {min(self.ratios):g}",
            "allocator.ratios=[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9], as in the paper",
        )

    def _candidates(self, budget: Budget) -> list[list[int]]:
        """Each target's ranks at all ratios, ascending; the budget's bounds are not applied."""
        count = len(budget.targets)
        by_ratio = [real_ranks(budget, [ratio] * count) for ratio in sorted(self.ratios)]
        return [[max(1, int(rank)) for rank in ranks] for ranks in zip(*by_ratio, strict=True)]

    def measurements(self) -> tuple[int, int]:
        """Each target at each ratio."""
        return len(self.ratios), 0

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The plan at the index, possibly between two entries, that meets the rate."""
        self.check_budget(budget)
        names = [target.name for target in budget.targets]
        candidates = dict(zip(names, self._candidates(budget), strict=True))
        probe = evidence.probe(self.samples)
        probe.announce(self.name, candidates)
        measured = probe.single(candidates)
        entries = sorted(
            (-divergence.loss, i, rank)
            for i, name in enumerate(names)
            for rank, divergence in zip(candidates[name], measured[name], strict=True)
        )
        family = applied_from(entries, budget.dense_ranks)

        def ranks_at(index: float) -> list[float]:
            whole = min(int(index), len(entries) - 1)
            part = min(index - whole, 1.0)
            pairs = zip(family[whole], family[whole + 1], strict=True)
            return [here + part * (following - here) for here, following in pairs]

        return solve(budget, ranks_at)


def applied_from(
    entries: Sequence[tuple[float, int, int]], dense_ranks: Sequence[int]
) -> list[list[int]]:
    """Ranks when all entries from index 0, 1, ... on are applied; the last: none, all dense.

    Entries are (sort key, position of the target, rank), sorted.
    """
    ranks = list(dense_ranks)
    family = [list(ranks)]
    for _, i, rank in reversed(entries):
        ranks[i] = min(ranks[i], rank)
        family.append(list(ranks))
    return family[::-1]
