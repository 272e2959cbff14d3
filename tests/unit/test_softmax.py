"""MoDeGPT's allocation, from its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from layers import FORM, allocate, layers

from flrc.allocator.softmax import Softmax
from flrc.errors import UserError


def test_ranks_from_the_formula() -> None:
    """Four blocks of one 200 x 200 layer at rate 0.3; dense is rank 100."""
    score = np.array([0.30, 0.10, 0.05, 0.20])
    weights = np.exp(-score / 0.1)
    phi = 4 * 0.3 * weights / weights.sum()
    assert phi == pytest.approx([0.0515, 0.3807, 0.6277, 0.1401], abs=1e-4)  # by pocket calculator
    plan = allocate(Softmax(), layers(*[(200, 200)] * 4), score.tolist(), 0.3)
    for rank, exact in zip(plan.ranks.values(), (1 - phi) * 100, strict=True):
        assert np.floor(exact) <= rank <= np.floor(exact) + 1
    assert sum(plan.ranks.values()) == 280
    ranks = list(plan.ranks.values())
    assert ranks[0] > ranks[3] > ranks[1] > ranks[2]  # important blocks keep more


def test_scores_by_block_give_the_softmax_over_blocks() -> None:
    """Two layers a block: each loses what its block would lose by itself."""
    one = allocate(Softmax(), layers(*[(200, 200)] * 2), [0.1, 0.2], 0.3)
    two = allocate(Softmax(), layers(*[(200, 200)] * 4), [0.1, 0.1, 0.2, 0.2], 0.3)
    assert list(two.ranks.values()) == [r for rank in one.ranks.values() for r in (rank, rank)]


def test_the_ceiling_sends_the_excess_to_the_others() -> None:
    """Weights e^8 : 2 : 1 (scores 0, 0.8 - 0.1 log 2, 0.8): the first would lose 1.199.

    It loses 0.8; what is left of 3 * 0.4 is split 2 : 1: keep 0.2, 0.7333, 0.8667.
    """
    scores = [0.0, 0.8 - 0.1 * float(np.log(2)), 0.8]
    plan = allocate(Softmax(), layers(*[(600, 600)] * 3), scores, 0.4)
    assert plan.ranks == {"t0": 60, "t1": 220, "t2": 260}  # of 300


def test_a_small_temperature_does_not_overflow() -> None:
    plan = allocate(Softmax(epsilon=1e-6), layers(*[(200, 200)] * 3), [1e4, 0.0, 5.0], 0.4)
    assert plan.ranks == {"t0": None, "t1": 20, "t2": 60}


def test_a_rate_above_the_ceiling_is_refused_before_any_work() -> None:
    targets = layers((64, 64), (64, 64))
    allocator = Softmax()
    with pytest.raises(UserError, match="above what any layer may lose"):
        allocator.check_reachable(targets, FORM, 0.85)
    with pytest.raises(UserError, match="ceiling"):
        allocate(allocator, targets, [1.0, 2.0], 0.85)
    assert allocate(Softmax(ceiling=0.9), targets, [1.0, 2.0], 0.85).exact
