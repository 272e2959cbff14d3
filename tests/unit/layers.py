"""Layers, and what a plan must satisfy, worked out by hand: for the tests of allocators."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import strategies as st

from flrc.allocator.base import Allocator
from flrc.allocator.evidence import Evidence
from flrc.form.base import Form
from flrc.form.two_factor import TwoFactor
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target

FORM = TwoFactor()


class Pivoted(TwoFactor):
    """Two factors, one containing an identity: cost ``r (m + n - r)``, worked out by hand."""

    def cost(self, rank: int, target: Target) -> int:
        return rank * (target.d_out + target.d_in - rank)


def layers(*shapes: tuple[int, int]) -> list[Target]:
    return [Target(f"t{i}", m, n, i, "q_proj", f"t{i}") for i, (m, n) in enumerate(shapes)]


def cost(target: Target, rank: int | None) -> int:
    """Parameters by hand."""
    return target.d_out * target.d_in if rank is None else rank * (target.d_out + target.d_in)


def first_dense_rank(target: Target) -> int:
    """Brute force: the first rank whose factors are no smaller than the weight."""
    return next(r for r in range(1, 10**6) if cost(target, r) >= cost(target, None))


def check(
    plan: RankPlan,
    targets: Sequence[Target],
    rate: float,
    within: RankPlan | None = None,
    ceiling: float = math.inf,
) -> None:
    """The plan is consistent, within bounds, within budget, and leaves no rank that would fit."""
    dense = sum(t.d_out * t.d_in for t in targets)
    used = sum(cost(t, plan.ranks[t.name]) for t in targets)
    assert plan.realised == pytest.approx(1 - used / dense, abs=1e-12)
    assert plan.requested == rate
    assert used <= (1 - rate) * dense * (1 + 1e-12)  # the budget itself is a rounded number
    steps = []
    for t in targets:
        rank = plan.ranks[t.name]
        if rank is None:
            continue
        even = first_dense_rank(t)
        assert 1 <= rank < even  # from break-even on: dense
        bound = even if within is None or within.ranks[t.name] is None else within.ranks[t.name]
        assert bound is not None
        bound = min(bound, ceiling * (1 - rate) * t.dense / (t.d_out + t.d_in))
        if rank + 1 <= bound:
            more = None if rank + 1 >= even else rank + 1
            steps.append(cost(t, more) - cost(t, rank))
    left = (1 - rate) * dense - used
    assert left <= min(steps, default=1e-4 * dense)
    if steps:
        assert left < min(steps)


def allocate(
    allocator: Allocator,
    targets: list[Target],
    scores: Sequence[float],
    rate: float,
    form: Form = FORM,
) -> RankPlan:
    named = {t.name: s for t, s in zip(targets, scores, strict=True)}
    return allocator.allocate(Evidence(named), allocator.budget(targets, form, rate))


def allocate_spectra(
    allocator: Allocator,
    targets: list[Target],
    spectra: Sequence[Sequence[float]],
    rate: float,
    form: Form = FORM,
) -> RankPlan:
    named = {t.name: torch.tensor(s).double() for t, s in zip(targets, spectra, strict=True)}
    evidence = Evidence(spectrum=named.__getitem__)
    return allocator.allocate(evidence, allocator.budget(targets, form, rate))


widths = st.sampled_from([64, 96, 256, 384])
shapes = st.lists(st.tuples(widths, widths), min_size=4, max_size=24)
heavy = st.one_of(st.just(0.0), st.floats(-9, 9).map(lambda e: 10.0**e), st.floats(0.1, 10.0))
rates = st.floats(0.01, 0.9)

# Layers of one Llama-3-8B block, four blocks of it: the tolerance of 1e-4 is for whole models.
BLOCK = [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)]
BLOCK += [(14336, 4096), (14336, 4096), (4096, 14336)]
