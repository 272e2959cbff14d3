"""ASVD's search on three layers, by hand."""

from __future__ import annotations

import math

import pytest
from probing import FORM, FakeProbe, evidence, nll_of, target, used

from flrc.allocator.divergence import Divergence
from flrc.allocator.sensitivity_search import SensitivitySearch
from flrc.errors import UserError

# 400 parameters each, 40 a rank: ratio 0.4 is rank 4, ratio 0.8 is rank 8, rank 10 is dense.
TARGETS = [target("a", 0), target("b", 1), target("c", 2)]
# Sorted, worst first:   a4  b4  a8  c4  c8  b8
# applied from index:     0   1   2   3   4   5   6
# parameters:           480 640 800 880 1040 1120 1200
PERPLEXITY = {("a", 4): 50, ("b", 4): 20, ("a", 8): 10, ("c", 4): 8, ("c", 8): 6, ("b", 8): 5}


def search(rate: float, broken: tuple[str, int] | None = None) -> tuple[dict[str, int | None], int]:
    def single(name: str, rank: int) -> Divergence:
        if (name, rank) == broken:
            return Divergence(math.nan, math.nan)
        return nll_of(PERPLEXITY[name, rank])

    probe, samples = FakeProbe(single), []
    allocator = SensitivitySearch(ratios=[0.8, 0.4], samples=7)
    allocator.check_reachable(TARGETS, FORM, rate)
    plan = allocator.allocate(evidence(probe, samples), allocator.budget(TARGETS, FORM, rate))
    assert samples == [7]
    assert probe.asked == [
        ("announce", "sensitivity_search", 6, 0),
        {"a": [4, 8], "b": [4, 8], "c": [4, 8]},
    ]
    return plan.ranks, used(plan, TARGETS)


@pytest.mark.parametrize(
    ("rate", "ranks"),
    [
        (0.1, {"a": None, "b": 8, "c": 9}),  # 1080: between 4 and 5, c between 8 and dense
        (0.3, {"a": 9, "b": 8, "c": 4}),  # 840: between 2 and 3, a between 8 and dense
        (0.4, {"a": 8, "b": 6, "c": 4}),  # 720: between 1 and 2, b between 4 and 8
        (0.6, {"a": 4, "b": 4, "c": 4}),  # 480: everything is applied
        (0.0, {"a": None, "b": None, "c": None}),
    ],
)
def test_by_hand(rate: float, ranks: dict[str, int | None]) -> None:
    found, parameters = search(rate)
    assert found == ranks
    assert parameters == pytest.approx((1 - rate) * 1200)


def test_what_breaks_the_model_is_applied_last() -> None:
    # The order is now b8 a4 b4 a8 c4 c8. From a8 on: 400 (b is dense) + 320 + 160 = 880; from b4
    # on: 160 + 320 + 160 = 640. In between b has a rank between 4 and dense.
    assert search(0.3, broken=("b", 8))[0] == {"a": 8, "b": 9, "c": 4}  # 840
    assert search(0.4, broken=("b", 8))[0] == {"a": 8, "b": 6, "c": 4}  # 720


def test_a_rate_below_the_smallest_ratio_is_refused() -> None:
    allocator = SensitivitySearch(ratios=[0.4, 0.8])
    with pytest.raises(UserError, match=r"rate up to 0\.6000") as caught:
        allocator.check_reachable(TARGETS, FORM, 0.61)
    assert "allocator.ratios" in str(caught.value)
    with pytest.raises(UserError, match="does not reach"):  # a phase of a schedule
        allocator.allocate(evidence(FakeProbe(), []), allocator.budget(TARGETS, FORM, 0.61))


def test_phases_nest() -> None:
    allocator = SensitivitySearch(ratios=[0.4, 0.8])
    known = evidence(FakeProbe(lambda n, r: nll_of(PERPLEXITY[n, r])), [])
    first = allocator.allocate(known, allocator.budget(TARGETS, FORM, 0.3))
    second = allocator.allocate(known, allocator.budget(TARGETS, FORM, 0.5, first))
    assert used(second, TARGETS) == 600
    assert all((second.ranks[n] or 10) <= (first.ranks[n] or 10) for n in first.ranks)


@pytest.mark.parametrize("bad", [{"ratios": []}, {"ratios": [1.0]}, {"samples": 0}])
def test_ranges(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        SensitivitySearch(**bad)  # type: ignore[arg-type]
