"""SVD-LLM V2's allocation, from its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from layers import allocate_spectra, layers

from flrc.allocator.type_loss import TypeLoss
from flrc.plans.target import Target


def test_ranks_from_the_formula() -> None:
    """Two q (tails 3 and 30), two up (5 and 1), 100 x 100, rate 0.5: rank 25 is cut behind."""
    targets = [Target(f"{p}{b}", 100, 100, b, p, f"{p}{b}") for b in (0, 1) for p in ("q", "up")]
    tails = {"q0": 3.0, "up0": 5.0, "q1": 30.0, "up1": 1.0}
    # Loss behind rank 25: the one value at place 26; what stands before it must not matter.
    spectra = [[50.0] * 25 + [tails[t.name]] + [0.0] * 74 for t in targets]
    plan = allocate_spectra(TypeLoss(), targets, spectra, 0.5)

    expected = {}
    for kind in ("q", "up"):
        loss = np.array([tails[f"{kind}0"], tails[f"{kind}1"]])
        score = 1 / np.log(np.e + loss)
        keep = 1 - 2 * 0.5 * score / score.sum()
        expected |= {f"{kind}0": keep[0] * 50, f"{kind}1": keep[1] * 50}
    assert sum(expected.values()) == pytest.approx(100)  # equal shapes: the rate is met already
    for name, rank in expected.items():
        assert np.floor(rank) <= plan.ranks[name] <= np.floor(rank) + 1
    assert sum(plan.ranks.values()) == 100
    assert plan.ranks["q1"] > plan.ranks["q0"] + 10  # the larger loss keeps more
    # q: scores 0.5735 and 0.2867, so 16.66 and 33.34 ranks; up: 0.4893 and 0.7615, 30.44 and 19.56.
    # Rounded down they are 98. A common factor of 1.02 brings up0 to 31 and q1 to 34: 100.
    assert plan.ranks == {"q0": 16, "up0": 31, "q1": 34, "up1": 19}


def test_a_ratio_above_one_is_cut_and_the_excess_goes_to_the_type() -> None:
    """Three of one type at rate 0.6, score weights 5 : 1 : 1 wish 1.286, 0.257, 0.257.

    Cut at 1, the excess 0.286 makes the others lose 0.4 each: keep 0, 0.6, 0.6 of 50 ranks. The
    first still gets the smallest rank, 1, so the others lose half of it each: 29.5, one is rounded.
    """
    targets = layers(*[(100, 100)] * 3)
    # 1 / log(1.5 + L) in 5 : 1 : 1 with log(1.5) = 0.405 (no loss) and log(1.5 + L) = 2.027
    tail = float(np.exp(5 * np.log(1.5)) - 1.5)
    spectra = [[9.0] * 20 + [x] + [0.0] * 79 for x in (0.0, tail, tail)]
    plan = allocate_spectra(TypeLoss(offset=1.5), targets, spectra, 0.6)
    assert plan.ranks == {"t0": 1, "t1": 30, "t2": 29}


def test_types_do_not_trade() -> None:
    """A type whose losses are all huge loses as much as one whose are all small."""
    targets = [Target(f"{p}{b}", 100, 100, b, p, f"{p}{b}") for b in (0, 1) for p in ("q", "up")]
    spectra = [[1e6 if t.projection == "q" else 1e-6] * 100 for t in targets]
    assert set(allocate_spectra(TypeLoss(), targets, spectra, 0.4).ranks.values()) == {30}
