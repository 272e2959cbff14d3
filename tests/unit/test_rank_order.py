"""PrunerGPT's allocation, by hand."""

from __future__ import annotations

import pytest
from layers import allocate, layers

from flrc.allocator.rank_order import RankOrder


def test_evenly_spaced_by_the_order_of_the_scores() -> None:
    """Five at rate 0.3, a = 0.1: 0.6, 0.65, 0.7, 0.75, 0.8 of rank 100, in the order of scores."""
    targets = layers(*[(200, 200)] * 5)
    plan = allocate(RankOrder(), targets, [7.0, 1e-9, 1e9, 8.0, 0.5], 0.3)
    assert plan.ranks == {"t0": 70, "t1": 60, "t2": 80, "t3": 75, "t4": 65}


def test_equal_scores_keep_the_order_of_the_model() -> None:
    plan = allocate(RankOrder(half_width=0.2), layers(*[(200, 200)] * 3), [1.0] * 3, 0.5)
    assert plan.ranks == {"t0": 30, "t1": 50, "t2": 70}


def test_shares_above_one_are_cut_and_the_rate_is_met() -> None:
    """Rate 0.05: 0.85, 0.95, 1.05 are cut to 0.85, 0.95, 1, and scaled up to a mean of 0.95.

    The third is dense (10,000 of 40,000 each); 74,000 = 40,000 c (0.85 + 0.95): c = 1.0278, keep
    0.8736 and 0.9764 of rank 100.
    """
    plan = allocate(RankOrder(), layers(*[(200, 200)] * 3), [1.0, 2.0, 3.0], 0.05)
    assert plan.ranks["t2"] is None
    assert (plan.ranks["t0"], plan.ranks["t1"]) in ((87, 98), (88, 97))


def test_parameters_count_where_shapes_differ() -> None:
    """The larger layer is the sensitive one: 0.4 of 20,000 and 0.6 of 60,000 are 0.55, not 0.5.

    Both are scaled by 10/11: 0.3636 and 0.5455, so 7,273 and 32,727 parameters of 300 and 500 a
    rank: 24.2 and 65.5; 24 and 65 use 39,700, and the 300 left are a rank of the first.
    """
    targets = layers((100, 200), (200, 300))
    plan = allocate(RankOrder(), targets, [1.0, 2.0], 0.5)
    assert plan.ranks == {"t0": 25, "t1": 65}
    assert plan.realised == 0.5


def test_one_target_keeps_the_rate() -> None:
    assert allocate(RankOrder(), layers((200, 200)), [3.0], 0.4).ranks == {"t0": 60}


@pytest.mark.parametrize("rate", [0.0, 0.97])
def test_extreme_rates(rate: float) -> None:
    plan = allocate(RankOrder(), layers(*[(200, 200)] * 4), [1.0, 2.0, 3.0, 4.0], rate)
    assert plan.realised == pytest.approx(rate, abs=1e-2)
