"""ATP's slopes on three blocks, by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from probing import FORM, FakeProbe, evidence, nll_of, target

from flrc.allocator.depth_linear import DepthLinear
from flrc.allocator.divergence import Divergence
from flrc.errors import UserError

TARGETS = [target("a", 0), target("b", 1), target("c", 2)]  # 400 parameters each, 40 a rank

# Rate 0.5: 600 parameters, 15 ranks; slopes 0, 1/2 and 1 keep
#   .5  .5  .5   -> 5, 5, 5
#   .75 .5  .25  -> 7.5, 5, 2.5, scaled until 15 whole ranks are used -> 8, 5, 2
#   1   .5  0    -> 10, 5, 0; c keeps its one rank, so just below: 9, 4, 1, and one left, to b,
#                   which is cut most
PLANS = [{"a": 5, "b": 5, "c": 5}, {"a": 8, "b": 5, "c": 2}, {"a": 9, "b": 5, "c": 1}]


def choose(perplexities: list[float], rate: float = 0.5) -> tuple[Any, list[Any]]:
    def measure(ranks: Mapping[str, int | None]) -> Divergence:
        value = perplexities[PLANS.index(dict(ranks))] if rate == 0.5 else 1.0
        return Divergence(math.nan, math.nan) if math.isnan(value) else nll_of(value)

    probe, samples = FakeProbe(plan=measure), []
    allocator = DepthLinear(slopes=3, samples=2)
    plan = allocator.allocate(evidence(probe, samples), allocator.budget(TARGETS, FORM, rate))
    assert samples == [2]
    assert probe.asked[0] == ("announce", "depth_linear", 0, 3)
    return plan.ranks, probe.asked[1:]


def test_all_slopes_by_hand() -> None:
    assert choose([1.0, 2.0, 3.0])[1] == PLANS


@pytest.mark.parametrize(
    ("perplexities", "best"),
    [
        ([12.0, 10.0, 11.0], 1),
        ([12.0, 10.0, 9.0], 2),
        ([12.0, 10.0, 10.0], 1),  # the flatter of equals
        ([math.nan, 1e9, 1e10], 1),
    ],
)
def test_the_least_perplexity_is_kept(perplexities: list[float], best: int) -> None:
    assert choose(perplexities)[0] == PLANS[best]


def test_the_steepest_slope_at_a_low_rate() -> None:
    # Rate 0.2: slopes 0, .2 and .4; the last keeps 1, .8, .6: dense, 8, 6 of 960 parameters.
    _, asked = choose([], rate=0.2)
    assert asked[0] == {"a": 8, "b": 8, "c": 8}
    assert asked[2] == {"a": None, "b": 8, "c": 6}


def test_one_block_is_uniform() -> None:
    allocator = DepthLinear()
    alone = [target("a", 0), target("b", 0)]
    plan = allocator.plan(allocator.budget(alone, FORM, 0.5), 1.0)
    assert plan.ranks == {"a": 5, "b": 5}


def test_no_finite_plan_is_reported() -> None:
    with pytest.raises(UserError, match="no finite loss"):
        choose([math.nan] * 3)


@pytest.mark.parametrize("bad", [{"slopes": 1}, {"samples": 0}, {"minimum_rank": 0}])
def test_ranges(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        DepthLinear(**bad)
