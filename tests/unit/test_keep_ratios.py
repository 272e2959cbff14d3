"""Keep shares to ranks, and capped proportions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import FORM, Pivoted, layers

from flrc.allocator.budget import Budget
from flrc.allocator.keep_ratios import capped_softmax, real_ranks, solve_keep_ratios


def test_two_factors_divide() -> None:
    """0.37 * 96 * 64 / 160."""
    (rank,) = real_ranks(Budget.of(layers((96, 64)), FORM, 0.5), [0.37])
    assert rank == pytest.approx(0.37 * 96 * 64 / 160, rel=1e-12)


def test_the_pivoted_form_is_inverted_between_whole_ranks() -> None:
    """20 x 20: rank 7 costs 231, rank 8 costs 256; 240 parameters are 9/25 of the way."""
    (rank,) = real_ranks(Budget.of(layers((20, 20)), Pivoted(), 0.5), [0.6])
    assert rank == pytest.approx(7 + 9 / 25, rel=1e-12)


@pytest.mark.parametrize(("keep", "rank"), [(0.0, 0.0), (0.0125, 0.125), (1.0, 10.0), (3.0, 10.0)])
def test_ends(keep: float, rank: float) -> None:
    """20 x 20 in two factors: rank 1 costs 40 of 400, break-even is 10 (dense)."""
    assert real_ranks(Budget.of(layers((20, 20)), FORM, 0.5), [keep]) == [pytest.approx(rank)]


@given(st.integers(1, 60), st.integers(1, 60), st.lists(st.floats(0, 1.2), min_size=2, max_size=9))
def test_ranks_grow_with_the_share_and_cost_no_more(m: int, n: int, shares: list[float]) -> None:
    for form in (FORM, Pivoted()):
        budget = Budget.of(layers((m, n)), form, 0.5)
        ranks = [real_ranks(budget, [keep])[0] for keep in sorted(shares)]
        assert ranks == sorted(ranks)
        for keep, rank in zip(sorted(shares), ranks, strict=True):
            assert budget.cost(0, int(rank)) <= keep * m * n + 1e-6 or rank < 1


def test_shares_that_meet_the_rate_are_kept() -> None:
    """100 x 100 twice: 0.6 and 0.4 of 10,000 parameters are ranks 30 and 20 of 200 each."""
    plan = solve_keep_ratios(Budget.of(layers((100, 100), (100, 100)), FORM, 0.5), [0.6, 0.4])
    assert plan.ranks == {"t0": 30, "t1": 20}
    assert plan.realised == 0.5


def test_shares_that_do_not_are_scaled_alike() -> None:
    """0.9 and 0.6 keep 0.75; for 0.5 both are cut by a third: 0.6 and 0.4."""
    plan = solve_keep_ratios(Budget.of(layers((100, 100), (100, 100)), FORM, 0.5), [0.9, 0.6])
    assert plan.ranks == {"t0": 30, "t1": 20}


def test_capped_softmax_by_hand() -> None:
    """Weights 8, 3, 1 of mean 0.5 are 1, 0.375, 0.125; under 0.8 the 0.7 left are split 3 : 1."""
    logits = [math.log(8), math.log(3), 0.0]
    assert capped_softmax(logits, 0.5, 1.0) == pytest.approx([1.0, 0.375, 0.125])
    assert capped_softmax(logits, 0.5, 0.8) == pytest.approx([0.8, 0.525, 0.175])
    assert capped_softmax(logits[::-1], 0.5, 0.8) == pytest.approx([0.175, 0.525, 0.8])


def test_two_rounds_of_capping() -> None:
    """Weights 90, 9, 1 of mean 0.6 under 0.8: 1.62 is cut, then 0.9 of the 1.0 left, 0.2 stay."""
    logits = [math.log(90), math.log(9), 0.0]
    assert capped_softmax(logits, 0.6, 0.8) == pytest.approx([0.8, 0.8, 0.2])


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), st.floats(0, 0.8), st.floats(0.8, 1)
)
def test_capped_softmax_keeps_mean_ceiling_and_order(
    logits: list[float], mean: float, ceiling: float
) -> None:
    found = capped_softmax(logits, mean, ceiling)
    assert np.mean(found) == pytest.approx(mean, abs=1e-9)
    assert all(0 <= x <= ceiling for x in found)
    by_logit = [x for _, x in sorted(zip(logits, found, strict=True))]
    assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(by_logit))


def test_a_mean_above_the_ceiling_is_impossible() -> None:
    with pytest.raises(ValueError, match="ceiling"):
        capped_softmax([0.0, 1.0], 0.9, 0.8)
