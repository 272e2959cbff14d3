"""A probe with predefined answers and a few targets, for the allocators that measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from flrc.allocator.divergence import Divergence
from flrc.allocator.evidence import Evidence
from flrc.form.two_factor import TwoFactor
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target

FORM = TwoFactor()


def target(name: str, block: int, projection: str = "q_proj", size: int = 20) -> Target:
    """A square layer: of size 20 it has 400 parameters, and a rank costs 40; dense from 10 on."""
    return Target(name, size, size, block, projection, name)


class FakeProbe:
    """Answers from functions; records what it was asked, in order.

    Args:
        single: ``(name, rank) -> Divergence``.
        plan: ``ranks -> Divergence``.
    """

    def __init__(
        self,
        single: Callable[[str, int], Divergence] | None = None,
        plan: Callable[[Mapping[str, int | None]], Divergence] | None = None,
    ) -> None:
        self._single, self._plan = single, plan
        self.asked: list[Any] = []

    def announce(
        self, what: str, candidates: Mapping[str, Sequence[int]] | None = None, plans: int = 0
    ) -> None:
        """Must come before anything is measured."""
        count = sum(len(ranks) for ranks in (candidates or {}).values())
        self.asked.append(("announce", what, count, plans))

    def single(self, candidates: Mapping[str, Sequence[int]]) -> dict[str, list[Divergence]]:
        assert self._single is not None
        self.asked.append({name: list(ranks) for name, ranks in candidates.items()})
        return {n: [self._single(n, r) for r in ranks] for n, ranks in candidates.items()}

    def plan(self, ranks: Mapping[str, int | None]) -> Divergence:
        assert self._plan is not None
        self.asked.append(dict(ranks))
        return self._plan(ranks)


def evidence(
    probe: FakeProbe, samples: list[int | None], spectrum: Callable[[str], Tensor] | None = None
) -> Evidence:
    """Evidence with this probe; records the number of samples that is asked for."""

    def make(count: int | None) -> Any:
        samples.append(count)
        return probe

    return Evidence(probe=make) if spectrum is None else Evidence(spectrum=spectrum, probe=make)


def nll_of(perplexity: float, kl: float = 0.0) -> Divergence:
    """A divergence of this perplexity."""
    return Divergence(math.log(perplexity), kl)


def used(plan: RankPlan, targets: Sequence[Target]) -> int:
    """Parameters of square layers under a plan, by hand."""
    ranks = plan.ranks
    return sum(
        t.d_out * t.d_in if ranks[t.name] is None else ranks[t.name] * (t.d_out + t.d_in)
        for t in targets
    )
