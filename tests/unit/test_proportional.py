"""The paper's allocation: the rate is met, and small cases by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from layers import allocate, check, first_dense_rank, heavy, layers, rates
from layers import shapes as some_shapes

from flrc.allocator.proportional import Proportional
from flrc.errors import UserError


@given(some_shapes, rates, st.data())
def test_proportional_meets_the_rate(
    shapes: list[tuple[int, int]], rate: float, data: st.DataObject
) -> None:
    targets = layers(*shapes)
    scores = data.draw(st.lists(heavy, min_size=len(targets), max_size=len(targets)))
    assume(sum(scores) > 0)
    for redistribution in ("solved", "round_robin"):
        plan = allocate(Proportional(redistribution=redistribution), targets, scores, rate)
        check(plan, targets, rate)
        assert plan.exact


@given(st.integers(3, 12), rates, st.data())
def test_of_equal_layers_the_higher_score_gets_no_less(
    count: int, rate: float, data: st.DataObject
) -> None:
    targets = layers(*[(256, 384)] * count)
    scores = sorted(data.draw(st.lists(heavy, min_size=count, max_size=count)))
    assume(sum(scores) > 0)
    plan = allocate(Proportional(), targets, scores, rate)
    ranks = [math.inf if r is None else r for r in plan.ranks.values()]
    for low, high in itertools.combinations(range(count), 2):
        assert ranks[low] <= ranks[high] or scores[low] == scores[high]


def test_proportional_by_hand() -> None:
    """100 x 100 three times, rate 0.5: 15,000 parameters are 75 ranks of 200; scores 1 : 2 : 2."""
    targets = layers((100, 100), (100, 100), (100, 100))
    plan = allocate(Proportional(), targets, [1.0, 2.0, 2.0], 0.5)
    assert plan.ranks == {"t0": 15, "t1": 30, "t2": 30}
    assert plan.realised == 0.5


def test_what_clipping_takes_from_one_flows_to_the_others_in_proportion() -> None:
    """Break-even is rank 50, rate 0.3 leaves 21,000 parameters, the scores are 10 : 1 : 2.

    The first stays dense at 10,000; the other 11,000 are 55 ranks, split 1 : 2 into 18.33 and
    36.67; the left-over rank goes to the fraction that lost most, 0.67.
    """
    targets = layers((100, 100), (100, 100), (100, 100))
    plan = allocate(Proportional(), targets, [10.0, 1.0, 2.0], 0.3)
    assert plan.ranks == {"t0": None, "t1": 18, "t2": 37}


def test_literal_formula_by_hand() -> None:
    """Uniform rank at rate 0.5 is 25, so the rank sum is 75: shares .8, .16, .04 give 60, 12, 3.

    Rank 60 is above break-even and stays dense: 10,000 + 2,400 + 600 of 30,000 parameters.
    """
    targets = layers((100, 100), (100, 100), (100, 100))
    plan = allocate(Proportional(redistribution="literal"), targets, [20.0, 4.0, 1.0], 0.5)
    assert plan.ranks == {"t0": None, "t1": 12, "t2": 3}
    assert plan.realised == pytest.approx(1 - 13000 / 30000)
    assert plan.requested == 0.5
    assert not plan.exact
    assert plan.to_json()["exact"] is False


def test_literal_keeps_the_minimum_rank() -> None:
    targets = layers((100, 100), (100, 100))
    plan = allocate(Proportional(redistribution="literal"), targets, [1.0, 0.0], 0.5)
    assert plan.ranks == {"t0": None, "t1": 1}  # 50 is break-even


def test_round_robin_by_hand() -> None:
    """Four layers 100 x 100 at rate 0.5 are 100 ranks, break-even is 50.

    Wished are 60, 25.2, 10.7 and 4.1. The first is cut at 50 (dense); floors 25, 10, 4 leave 11
    ranks, dealt in turn in ascending order of what rounding cut off: the fourth (0.1), the second
    (0.2), the third (0.7): 4, 4 and 3 ranks.
    """
    targets = layers(*[(100, 100)] * 4)
    plan = allocate(
        Proportional(redistribution="round_robin"), targets, [60.0, 25.2, 10.7, 4.1], 0.5
    )
    assert plan.ranks == {"t0": None, "t1": 29, "t2": 13, "t3": 8}


def test_round_robin_deals_in_ascending_order_of_what_was_cut_off() -> None:
    """Wished 6.2, 3.8, 5, 5 of 20: floors leave one rank, for a layer that lost nothing."""
    from flrc.allocator.proportional import round_robin

    share = [0.31, 0.19, 0.25, 0.25]
    assert round_robin(share, 20, [1] * 4, [50] * 4) == [6.0, 3.0, 6.0, 5.0]
    # Bounds end it: nothing is dealt above them, and the lower bound adds what it must.
    assert round_robin([1.0, 0.0], 30, [2, 2], [10, 12]) == [10.0, 12.0]


@given(some_shapes, st.floats(0.1, 0.6), st.data())
def test_floor_and_ceiling(shapes: list[tuple[int, int]], rate: float, data: st.DataObject) -> None:
    targets = layers(*shapes)
    scores = data.draw(st.lists(heavy, min_size=len(targets), max_size=len(targets)))
    assume(sum(scores) > 0)
    plan = allocate(Proportional(floor=0.5, ceiling=1.2), targets, scores, rate)
    check(plan, targets, rate, ceiling=1.2)
    for t in targets:
        uniform = (1 - rate) * t.dense / (t.d_out + t.d_in)
        rank = plan.ranks[t.name]
        if rank is None:
            assert int(1.2 * uniform) >= first_dense_rank(t)
        else:
            assert int(0.5 * uniform) <= rank <= int(1.2 * uniform)


def test_floor_and_ceiling_of_one_are_uniform() -> None:
    targets = layers(*[(200, 300)] * 5)
    plan = allocate(Proportional(floor=1.0, ceiling=1.0), targets, [5.0, 1.0, 1.0, 1.0, 9.0], 0.5)
    assert set(plan.ranks.values()) == {60}  # 0.5 * 60000 / 500


@pytest.mark.parametrize(
    "scores", [[0.0, 0.0], [1.0, float("nan")], [1.0, float("inf")], [1.0, -1.0]]
)
def test_scores_that_say_nothing_are_refused(scores: list[float]) -> None:
    with pytest.raises(UserError, match="scores"):
        allocate(Proportional(), layers((50, 50), (50, 50)), scores, 0.5)
