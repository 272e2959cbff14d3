"""The budget solver over arbitrary layers, scores and rates."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from layers import BLOCK, FORM, allocate, check, cost, first_dense_rank, heavy, layers, rates
from layers import shapes as some_shapes
from made_plans import make_plans

from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.allocator.proportional import Proportional
from flrc.allocator.uniform import Uniform
from flrc.errors import UserError
from flrc.plans.rank_plan import RankPlan
from flrc.schedule.constant import Constant
from flrc.schedule.increasing import Increasing
from flrc.schedule.progressive import Progressive


@given(st.integers(1, 80).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, 80))))
def test_dense_rank_by_brute_force(shape: tuple[int, int]) -> None:
    (target,) = layers(shape)
    assert FORM.dense_rank(target) == first_dense_rank(target)
    assert FORM.cost(3, target) == 3 * (shape[0] + shape[1])


@given(
    st.lists(st.tuples(st.integers(4, 48), st.integers(4, 48)), min_size=2, max_size=12),
    st.floats(0.05, 0.6),
    st.data(),
)
@example([(24, 48)] * 2 + [(96, 48)] * 3, 0.1, None)
def test_small_models_are_solved_too(
    shapes: list[tuple[int, int]], rate: float, data: st.DataObject | None
) -> None:
    """The smallest step is that of the layers that are still open; the solver must not give up."""
    targets = layers(*shapes)
    if data is None:
        scores = [1e6, 1e6, 1.0, 1.0, 1.0]  # the two cheap layers stay dense
    else:
        scores = data.draw(st.lists(heavy, min_size=len(targets), max_size=len(targets)))
    assume(sum(scores) > 0)
    try:
        plan = allocate(Proportional(), targets, scores, rate)
    except UserError:
        lowest = sum(min(cost(t, 1), cost(t, None)) for t in targets)
        assert lowest > (1 - rate) * sum(t.dense for t in targets)
        return
    check(plan, targets, rate)


@settings(max_examples=8)
@given(rates, st.lists(heavy, min_size=28, max_size=28))
def test_models_of_real_size_are_within_a_ten_thousandth(rate: float, scores: list[float]) -> None:
    assume(sum(scores) > 0)
    plan = allocate(Proportional(), layers(*(BLOCK * 4)), scores, rate)
    assert rate - 1e-12 <= plan.realised <= rate + 1e-4


@settings(max_examples=20)
@given(some_shapes, st.floats(0.15, 0.7), st.sampled_from([Progressive, Increasing]), st.data())
def test_phases_nest(
    shapes: list[tuple[int, int]],
    rate: float,
    kind: type[Progressive] | type[Increasing],
    data: st.DataObject,
) -> None:
    targets = layers(*shapes)
    scores = data.draw(st.lists(heavy, min_size=len(targets), max_size=len(targets)))
    assume(sum(scores) > 0)
    named = {t.name: s for t, s in zip(targets, scores, strict=True)}
    for allocator in (Proportional(), Proportional(redistribution="round_robin"), Uniform()):
        plans = make_plans(allocator, kind(), targets, FORM, Evidence(named), rate)
        check(plans.constant, targets, rate)
        by_rate = sorted(plans.phases, key=lambda pair: pair[0].rate)
        check(by_rate[0][1], targets, by_rate[0][0].rate)
        for (_, richer), (phase, poorer) in itertools.pairwise(by_rate):
            check(poorer, targets, phase.rate, within=richer)
            for t in targets:
                more, less = richer.ranks[t.name], poorer.ranks[t.name]
                assert more is None or (less is not None and less <= more)


def test_constant_schedule_has_one_plan() -> None:
    targets = layers((64, 64), (64, 64))
    plans = make_plans(Uniform(), Constant(), targets, FORM, Evidence(), 0.5)
    assert plans.phases[0][1] is plans.constant
    assert len(plans.phases) == 1


@given(
    st.lists(st.tuples(st.integers(8, 60), st.integers(8, 60)), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_an_unreachable_rate_names_one_that_is_reached(
    shapes: list[tuple[int, int]], minimum: int
) -> None:
    targets = layers(*shapes)
    dense = sum(t.dense for t in targets)
    smallest = sum(
        cost(t, None) if minimum >= first_dense_rank(t) else cost(t, minimum) for t in targets
    )
    highest = 1 - smallest / dense
    allocator = Uniform(minimum_rank=minimum)
    with pytest.raises(UserError, match="minimum rank") as caught:
        allocator.check_reachable(targets, FORM, min(highest + 0.01, 0.999))
    assert isinstance(caught.value.allowed, str)
    stated = float(caught.value.allowed.split("rate up to ")[1].split()[0])
    assert stated == pytest.approx(highest, abs=1e-4)
    allocator.check_reachable(targets, FORM, stated)  # does not raise: the bound holds


def test_a_ceiling_that_is_too_low_names_a_rate_that_is_reached() -> None:
    targets = layers((40, 50), (30, 30))
    allocator = Proportional(ceiling=1.0)
    budget = allocator.budget(targets, FORM, 0.5)
    assert budget.upper == [11, 7]  # floor of 11.1 and 7.5
    with pytest.raises(UserError, match="largest ranks"):
        budget.check_reachable()


def test_same_question_same_answer() -> None:
    targets = layers((64, 96), (96, 64), (64, 64))
    first = allocate(Proportional(), targets, [3.0, 1.0, 2.0], 0.37)
    assert first == allocate(Proportional(), targets, [3.0, 1.0, 2.0], 0.37)
    assert first == RankPlan.from_json(first.to_json())


def test_budget_counts_dense_layers_at_their_full_cost() -> None:
    targets = layers((100, 100))
    budget = Budget.of(targets, FORM, 0.0)
    assert budget.cost(0, 49) == 9800
    assert budget.cost(0, 50) == budget.cost(0, 90) == 10_000
