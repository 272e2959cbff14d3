"""The budget solver over arbitrary layers, scores and rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.plan import RankPlan
from flrc.allocator.planning import make_plans
from flrc.allocator.proportional import Proportional
from flrc.allocator.uniform import Uniform
from flrc.errors import UserError
from flrc.form.two_factor import TwoFactor
from flrc.models.targets import Target
from flrc.schedule.constant import Constant
from flrc.schedule.increasing import Increasing
from flrc.schedule.progressive import Progressive

FORM = TwoFactor()


def layers(*shapes: tuple[int, int]) -> list[Target]:
    return [Target(f"t{i}", m, n, i, "q_proj", f"t{i}") for i, (m, n) in enumerate(shapes)]


def cost(target: Target, rank: int | None) -> int:
    """Parameters by hand."""
    return (
        target.d_out * target.d_in if rank is None else rank * (target.d_out + target.d_in)
    )


def first_dense_rank(target: Target) -> int:
    """Brute force: the first rank whose factors are no smaller than the weight."""
    return next(r for r in range(1, 10**6) if cost(target, r) >= cost(target, None))


def check(plan: RankPlan, targets: Sequence[Target], rate: float, exact: bool = True) -> None:
    dense = sum(t.d_out * t.d_in for t in targets)
    used = sum(cost(t, plan.ranks[t.name]) for t in targets)
    assert plan.realised == pytest.approx(1 - used / dense, abs=1e-12)
    assert plan.requested == rate
    for t in targets:
        rank = plan.ranks[t.name]
        assert rank is None or 1 <= rank < first_dense_rank(t)  # from break-even on: dense
    if exact:
        assert used <= (1 - rate) * dense * (1 + 1e-12)
        step = min(t.d_out + t.d_in for t in targets) / dense
        assert plan.realised - rate <= max(1e-4, step) + 1e-12


def allocate(
    allocator: Allocator, targets: list[Target], scores: Sequence[float], rate: float
) -> RankPlan:
    named = {t.name: s for t, s in zip(targets, scores, strict=True)}
    return allocator.allocate(named, allocator.budget(targets, FORM, rate))


# Wide enough that a rank is a small step (what the promise of 1e-4 is made for), two widths as in a model.
widths = st.sampled_from([256, 384, 512, 1024])
shapes = st.lists(st.tuples(widths, widths), min_size=4, max_size=24)
heavy = st.one_of(
    st.just(0.0), st.floats(-12, 12).map(lambda e: 10.0**e), st.floats(0.1, 10.0)
)
rates = st.floats(0.01, 0.9)


@given(
    st.integers(1, 80).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, 80)))
)
def test_dense_rank_by_brute_force(shape: tuple[int, int]) -> None:
    (target,) = layers(shape)
    assert FORM.dense_rank(target) == first_dense_rank(target)
    assert FORM.cost(3, target) == 3 * (shape[0] + shape[1])


@given(shapes, rates, st.data())
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


@given(shapes, rates)
def test_uniform_meets_the_rate(shapes: list[tuple[int, int]], rate: float) -> None:
    targets = layers(*shapes)
    check(allocate(Uniform(), targets, [0.0] * len(targets), rate), targets, rate)


@given(
    st.lists(st.tuples(st.integers(4, 48), st.integers(4, 48)), min_size=2, max_size=12),
    st.floats(0.05, 0.6),
    st.data(),
)
@example([(24, 48)] * 2 + [(96, 48)] * 3, 0.1, None)
def test_small_models_are_solved_too(
    shapes: list[tuple[int, int]], rate: float, data: st.DataObject | None
) -> None:
    """One rank of the layers that are still open is the smallest step; the solver must not give up."""
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
    check(plan, targets, rate, exact=False)
    dense = sum(t.dense for t in targets)
    used = sum(cost(t, plan.ranks[t.name]) for t in targets)
    assert used <= (1 - rate) * dense
    for t in targets:  # nothing that still fits is left unused
        rank = plan.ranks[t.name]
        if rank is not None:
            more = cost(t, None) if rank + 1 >= first_dense_rank(t) else cost(t, rank + 1)
            assert used - cost(t, rank) + more > (1 - rate) * dense


@given(st.integers(3, 12), rates, st.data())
def test_of_equal_layers_the_higher_score_gets_no_less(
    count: int, rate: float, data: st.DataObject
) -> None:
    targets = layers(*[(256, 384)] * count)
    scores = sorted(data.draw(st.lists(heavy, min_size=count, max_size=count)))
    assume(sum(scores) > 0)
    plan = allocate(Proportional(), targets, scores, rate)
    ranks = [math.inf if r is None else r for r in plan.ranks.values()]
    assert ranks == sorted(ranks)


@given(shapes, st.floats(0.05, 0.7))
def test_uniform_is_the_formula_but_for_the_hand_out(
    shapes: list[tuple[int, int]], rate: float
) -> None:
    targets = layers(*shapes)
    plan = allocate(Uniform(), targets, [0.0] * len(targets), rate)
    for t in targets:
        formula = math.floor((1 - rate) * t.d_out * t.d_in / (t.d_out + t.d_in))
        rank = plan.ranks[t.name]
        assert rank is not None
        # The hand-out gives the share that all layers lost by rounding: about one rank, at most two.
        assert formula <= rank <= formula + 2


def test_uniform_ranks_of_llama_3_8b() -> None:
    """METHODS, section 0: 1638 / 655 / 2548 at 20 %, of 6,979,321,856 parameters."""
    block = [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)]
    block += [(14336, 4096), (14336, 4096), (4096, 14336)]
    targets = layers(*(block * 32))
    assert sum(t.dense for t in targets) == 6_979_321_856
    plan = allocate(Uniform(), targets, [0.0] * len(targets), 0.2)
    for t in targets:
        low = {4096 + 4096: 1638, 1024 + 4096: 655, 14336 + 4096: 2548}[t.d_out + t.d_in]
        assert plan.ranks[t.name] in (low, low + 1)
    assert abs(plan.realised - 0.2) < 1e-6


def test_proportional_by_hand() -> None:
    """100 x 100 three times, rate 0.5: 15,000 parameters are 75 ranks of 200; scores 1 : 2 : 2."""
    targets = layers((100, 100), (100, 100), (100, 100))
    plan = allocate(Proportional(), targets, [1.0, 2.0, 2.0], 0.5)
    assert plan.ranks == {"t0": 15, "t1": 30, "t2": 30}
    assert plan.realised == 0.5


def test_what_clipping_takes_from_one_flows_to_the_others_in_proportion() -> None:
    """Break-even is rank 50. Scores 10 : 1 : 2 at rate 0.3: 21,000 parameters; the first stays dense at 10,000;
    of the other 11,000 the 55 ranks split 1 : 2 into 18.33 and 36.67; the left-over rank goes to the fraction
    that lost most, 0.67."""
    targets = layers((100, 100), (100, 100), (100, 100))
    plan = allocate(Proportional(), targets, [10.0, 1.0, 2.0], 0.3)
    assert plan.ranks == {"t0": None, "t1": 18, "t2": 37}


def test_literal_formula_by_hand() -> None:
    """Uniform rank at rate 0.5 is 25, so the rank sum is 75: shares 0.8, 0.16, 0.04 give 60, 12, 3. Rank 60 is above
    break-even and stays dense: 10,000 + 2,400 + 600 of 30,000 parameters."""
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
    """Four layers 100 x 100 at rate 0.5 are 100 ranks; break-even 50. Scores 12 : 5 : 2 : 1.

    With a rank sum R: shares 0.6, 0.25, 0.1, 0.05. The first is cut at 50 (dense), its rest is dealt out in turn to
    the others. At R = 100: 60 -> 50, 25, 10, 5 and ten more ranks in turn, in ascending order of the cut-off: 25, 10
    and 5 lost nothing, so the model's order holds: 4, 3, 3. That is 50 + 29 + 13 + 8 = 100.
    """
    targets = layers(*[(100, 100)] * 4)
    plan = allocate(
        Proportional(redistribution="round_robin"), targets, [12.0, 5.0, 2.0, 1.0], 0.5
    )
    assert plan.ranks == {"t0": None, "t1": 29, "t2": 13, "t3": 8}


def test_round_robin_deals_in_ascending_order_of_what_was_cut_off() -> None:
    """Rank sum 30, shares 1/3 (10), 0.31 (9.3), 0.19 (5.7), 1/6 (5): floors 10, 9, 5, 5 = 29; the one rank goes to the
    smallest difference, a layer that lost nothing."""
    from flrc.allocator.proportional import round_robin

    share = [0.31, 0.19, 0.25, 0.25]
    assert round_robin(share, 20, [1] * 4, [50] * 4) == [6.0, 3.0, 6.0, 5.0]
    # Two differences of 0 (layers 2 and 3), then 0.2, then 0.8: two ranks are missing.
    assert round_robin(share, 40, [1] * 4, [50] * 4) == [12.0, 7.0, 11.0, 10.0]
    # Bounds end it: nothing is dealt above them, and the lower bound adds what it must.
    assert round_robin([1.0, 0.0], 30, [2, 2], [10, 12]) == [10.0, 12.0]


@given(shapes, st.floats(0.1, 0.6), st.data())
def test_floor_and_ceiling(
    shapes: list[tuple[int, int]], rate: float, data: st.DataObject
) -> None:
    targets = layers(*shapes)
    scores = data.draw(st.lists(heavy, min_size=len(targets), max_size=len(targets)))
    assume(sum(scores) > 0)
    plan = allocate(Proportional(floor=0.5, ceiling=1.2), targets, scores, rate)
    check(plan, targets, rate, exact=False)
    for t in targets:
        uniform = (1 - rate) * t.dense / (t.d_out + t.d_in)
        rank = plan.ranks[t.name]
        if rank is None:
            assert int(1.2 * uniform) >= first_dense_rank(t)
        else:
            assert int(0.5 * uniform) <= rank <= int(1.2 * uniform)


def test_floor_and_ceiling_of_one_are_uniform() -> None:
    targets = layers(*[(200, 300)] * 5)
    plan = allocate(
        Proportional(floor=1.0, ceiling=1.0), targets, [5.0, 1.0, 1.0, 1.0, 9.0], 0.5
    )
    assert set(plan.ranks.values()) == {60}  # 0.5 * 60000 / 500


@given(shapes, st.floats(0.15, 0.7), st.sampled_from([Progressive, Increasing]), st.data())
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
        plans = make_plans(allocator, kind(), targets, FORM, named, rate)
        check(plans.constant, targets, rate)
        for phase, plan in plans.phases:
            check(plan, targets, phase.rate)
        by_rate = sorted(plans.phases, key=lambda pair: pair[0].rate)
        for (_, richer), (_, poorer) in zip(by_rate, by_rate[1:], strict=False):
            for t in targets:
                more, less = richer.ranks[t.name], poorer.ranks[t.name]
                assert more is None or (less is not None and less <= more)


def test_constant_schedule_has_one_plan() -> None:
    targets = layers((64, 64), (64, 64))
    plans = make_plans(Uniform(), Constant(), targets, FORM, {}, 0.5)
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
    allocator.check_reachable(targets, FORM, stated)  # does not raise: the bound is true


def test_a_ceiling_that_is_too_low_names_a_rate_that_is_reached() -> None:
    targets = layers((40, 50), (30, 30))
    allocator = Proportional(ceiling=1.0)
    budget = allocator.budget(targets, FORM, 0.5)
    assert budget.upper == [11, 7]  # floor of 11.1 and 7.5
    with pytest.raises(UserError, match="largest ranks"):
        budget.check_reachable()


@pytest.mark.parametrize(
    "scores", [[0.0, 0.0], [1.0, float("nan")], [1.0, float("inf")], [1.0, -1.0]]
)
def test_scores_that_say_nothing_are_refused(scores: list[float]) -> None:
    with pytest.raises(UserError, match="scores"):
        allocate(Proportional(), layers((50, 50), (50, 50)), scores, 0.5)


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
