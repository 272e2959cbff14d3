"""The same fraction is kept in every layer, whatever a rank costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import BLOCK, Pivoted, allocate, check, first_dense_rank, layers, rates
from layers import shapes as some_shapes

from flrc.allocator.uniform import Uniform


@given(some_shapes, rates)
def test_uniform_meets_the_rate(shapes: list[tuple[int, int]], rate: float) -> None:
    targets = layers(*shapes)
    check(allocate(Uniform(), targets, [0.0] * len(targets), rate), targets, rate)


@given(some_shapes, st.floats(0.05, 0.7))
def test_uniform_is_the_formula_but_for_the_hand_out(
    shapes: list[tuple[int, int]], rate: float
) -> None:
    targets = layers(*shapes)
    plan = allocate(Uniform(), targets, [0.0] * len(targets), rate)
    for t in targets:
        formula = math.floor((1 - rate) * t.d_out * t.d_in / (t.d_out + t.d_in))
        rank = plan.ranks[t.name]
        rank = first_dense_rank(t) if rank is None else rank
        # What all layers lost by rounding is handed out: a rank to each that it fits, and when
        # only the step of the widest is still missing, the rest of that step in steps of its own.
        widest = max(u.d_out + u.d_in for u in targets)
        assert formula <= rank <= formula + 1 + math.ceil(widest / (t.d_out + t.d_in))


def test_uniform_ranks_of_llama_3_8b() -> None:
    """METHODS, section 0: 1638 / 655 / 2548 at 20 %, of 6,979,321,856 parameters."""
    targets = layers(*(BLOCK * 32))
    assert sum(t.dense for t in targets) == 6_979_321_856
    plan = allocate(Uniform(), targets, [0.0] * len(targets), 0.2)
    for t in targets:
        low = {4096 + 4096: 1638, 1024 + 4096: 655, 14336 + 4096: 2548}[t.d_out + t.d_in]
        assert plan.ranks[t.name] in (low, low + 1)
    assert abs(plan.realised - 0.2) < 1e-6


def test_pivoted_ranks_of_llama_2_7b() -> None:
    """METHODS, section 0, at 20 %: ``r = (m + n - sqrt((m + n)^2 - 4 * 0.8 m n)) / 2``."""
    targets = layers(*([(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]))
    plan = allocate(Uniform(), targets, [0.0] * 7, 0.2, Pivoted())
    for t in targets:
        m, n = t.d_out, t.d_in
        formula = (m + n - math.sqrt((m + n) ** 2 - 4 * 0.8 * m * n)) / 2
        assert math.floor(formula) == (2264 if m == n else 2973)
        assert plan.ranks[t.name] in (math.floor(formula), math.floor(formula) + 1)


def test_any_form_keeps_equal_shares_not_multiples_of_break_even() -> None:
    """40 x 10 and 20 x 20, both 400 parameters, rate 0.4: 240 each in the pivoted form.

    ``r (50 - r) = 240`` at r = 5.38 and ``r (40 - r) = 240`` at 7.35: 225 + 231 of 480 are used,
    and 24 are left, which is less than a step (39 and 25).
    """
    targets = layers((40, 10), (20, 20))
    plan = allocate(Uniform(), targets, [0.0, 0.0], 0.4, Pivoted())
    assert plan.ranks == {"t0": 5, "t1": 7}
    assert plan.realised == pytest.approx(1 - 456 / 800)
