"""D-Rank's allocation, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from layers import Pivoted, allocate_spectra

from flrc.allocator.effective_rank import EffectiveRank, effective_rank
from flrc.plans.target import Target


def target(projection: str, m: int, n: int, block: int = 0) -> Target:
    name = f"{block}.{projection}"
    return Target(name, m, n, block, projection, name)


@pytest.mark.parametrize(
    ("spectrum", "rank"),
    [
        ([3.0] * 7, 7.0),  # even: all
        ([3.0, 0.0, 0.0], 1.0),  # one direction
        ([3.0**0.5, 1.0], 4 / 3**0.75),  # p = 3/4, 1/4: exp(H) = (4/3)^(3/4) * 4^(1/4)
        ([0.0, 0.0], 1.0),
    ],
)
def test_effective_rank(spectrum: list[float], rank: float) -> None:
    assert effective_rank(torch.tensor(spectrum)) == pytest.approx(rank, rel=1e-6)


def test_ranks_by_the_root_of_effective_rank_over_cost() -> None:
    """R = 36, 9, 16 at omega 200, 200, 450: roots .4243, .2121, .1886 (2.25 : 1.125 : 1).

    Costs 200, 200, 450 a rank; of 10,000 + 10,000 + 45,000 at rate 0.8 there are 13,000. With k1 =
    2.25 c, k2 = 1.125 c, k3 = c: 450 c + 225 c + 450 c = 13,000, c = 11.556: 26.0, 13.0, 11.556.
    """
    targets = [target("o_proj", 100, 100), target("up_proj", 100, 100), target("down", 300, 150)]
    spectra = [[1.0] * 36 + [0.0] * 64, [1.0] * 9 + [0.0] * 91, [1.0] * 16 + [0.0] * 134]
    plan = allocate_spectra(EffectiveRank(transfer=0.0), targets, spectra, 0.8)
    # 26 and 13 are 7,800; 11 of 450 are 4,950; 250 are left: one rank of 200, cut-off 0.0 ones
    # come after the third, which does not fit.
    assert plan.ranks["0.down"] == 11
    assert plan.ranks["0.o_proj"] + plan.ranks["0.up_proj"] == 40
    assert plan.ranks["0.o_proj"] in (26, 27)


def test_transfer_from_q_and_k_to_v() -> None:
    """Equal layers at rate 0.5: 50 ranks each of 100; q and k give 15 each: 35, 35, 80, 50."""
    targets = [target(p, 200, 200) for p in ("q_proj", "k_proj", "v_proj", "o_proj")]
    plan = allocate_spectra(EffectiveRank(), targets, [[1.0] * 200] * 4, 0.5)
    assert plan.ranks == {"0.q_proj": 35, "0.k_proj": 35, "0.v_proj": 80, "0.o_proj": 50}


def test_transfer_stays_in_its_block_and_the_rate_is_met_after_it() -> None:
    """Block 1 has no v: nothing is moved there. v is 20 x 100: its ranks cost 120, not 200.

    Effective ranks are equal, so k is 1/sqrt(200) for all, 1/sqrt(120) for v: 7.07 and 9.13 in
    hundredths; q, k of block 0 fall to 4.95 and v rises to 13.37; the solver scales all of it.
    """
    targets = [target(p, 100, 100) for p in ("q_proj", "k_proj")] + [target("v_proj", 20, 100)]
    targets += [target(p, 100, 100, 1) for p in ("q_proj", "k_proj")]
    spectra = [[1.0] * 20] * 5
    plan = allocate_spectra(EffectiveRank(), targets, spectra, 0.9)
    weights = {"0.q_proj": 0.7, "0.k_proj": 0.7, "0.v_proj": (200 / 120) ** 0.5 + 0.6}
    weights |= {"1.q_proj": 1.0, "1.k_proj": 1.0}
    spent = {t.name: weights[t.name] * (t.d_out + t.d_in) for t in targets}
    scale = 0.1 * 42_000 / sum(spent.values())
    for name, weight in weights.items():
        rank = plan.ranks[name]
        assert rank is not None
        # Rounding leaves 440: a step of 200 does not use it up, two of v's 120 may.
        assert math.floor(scale * weight) <= rank <= math.floor(scale * weight) + 2
    assert plan.realised == pytest.approx(0.9, abs=120 / 42_000)


def test_joined_q_k_v_move_nothing() -> None:
    joined = Target.stacked(
        [Target(f"a.{p}", 50, 100, 0, p, "a") for p in ("q_proj", "k_proj", "v_proj")]
    )
    targets = [joined, target("o_proj", 150, 100)]
    plan = allocate_spectra(EffectiveRank(), targets, [[1.0] * 100] * 2, 0.5)
    assert plan.ranks[joined.name] == plan.ranks["0.o_proj"] == 30


def test_another_form_costs_its_own_first_rank() -> None:
    """Pivoted: the first rank costs 499 and 399, so ranks stand as sqrt(399) to sqrt(499)."""
    targets = [target("up", 400, 100), target("down", 200, 200)]
    plan = allocate_spectra(EffectiveRank(), targets, [[1.0] * 100] * 2, 0.5, Pivoted())
    first, second = (plan.ranks[t.name] for t in targets)
    assert first is not None
    assert second is not None
    assert first / second == pytest.approx((399 / 499) ** 0.5, abs=0.03)  # one rank of 47
