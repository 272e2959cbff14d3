"""The budget solver over arbitrary layers, scores and rates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given, settings
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
    return target.d_out * target.d_in if rank is None else rank * (target.d_out + target.d_in)


def first_dense_rank(target: Target) -> int:
    """Brute force: the first rank whose factors are no smaller than the weight."""
    return next(r for r in range(1, 10**6) if cost(target, r) >= cost(target, None))


def check(
    plan: RankPlan,
    targets: Sequence[Target],
    rate: float,
    within: RankPlan | None = None,
    ceiling: float = math.inf,
) -> None:
    """The plan is what it says, within bounds, never over budget, and leaves no rank that fits."""
    dense = sum(t.d_out * t.d_in for t in targets)
    used = sum(cost(t, plan.ranks[t.name]) for t in targets)
    assert plan.realised == pytest.approx(1 - used / dense, abs=1e-12)
    assert plan.requested == rate
    assert used <= (1 - rate) * dense
    steps = []
    for t in targets:
        rank = plan.ranks[t.name]
        if rank is None:
            continue
        even = first_dense_rank(t)
        assert 1 <= rank < even  # from break-even on: dense
        bound = even if within is None or within.ranks[t.name] is None else within.ranks[t.name]
        assert bound is not None
        bound = min(bound, ceiling * (1 - rate) * t.dense / (t.d_out + t.d_in))
        if rank + 1 <= bound:
            more = None if rank + 1 >= even else rank + 1
            steps.append(cost(t, more) - cost(t, rank))
    left = (1 - rate) * dense - used
    assert left <= min(steps, default=1e-4 * dense)
    if steps:
        assert left < min(steps)


def allocate(
    allocator: Allocator, targets: list[Target], scores: Sequence[float], rate: float
) -> RankPlan:
    named = {t.name: s for t, s in zip(targets, scores, strict=True)}
    return allocator.allocate(named, allocator.budget(targets, FORM, rate))


widths = st.sampled_from([64, 96, 256, 384])
shapes = st.lists(st.tuples(widths, widths), min_size=4, max_size=24)
heavy = st.one_of(st.just(0.0), st.floats(-9, 9).map(lambda e: 10.0**e), st.floats(0.1, 10.0))
rates = st.floats(0.01, 0.9)


@given(st.integers(1, 80).flatmap(lambda m: st.tuples(st.just(m), st.integers(1, 80))))
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


# Layers of one Llama-3-8B block, four blocks of it: the promise of 1e-4 is made for models.
BLOCK = [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)]
BLOCK += [(14336, 4096), (14336, 4096), (4096, 14336)]


@settings(max_examples=8)
@given(rates, st.lists(heavy, min_size=28, max_size=28))
def test_models_of_real_size_are_within_a_ten_thousandth(rate: float, scores: list[float]) -> None:
    assume(sum(scores) > 0)
    plan = allocate(Proportional(), layers(*(BLOCK * 4)), scores, rate)
    assert rate - 1e-12 <= plan.realised <= rate + 1e-4


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


@given(shapes, st.floats(0.05, 0.7))
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


@given(shapes, st.floats(0.1, 0.6), st.data())
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


@settings(max_examples=20)
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
        by_rate = sorted(plans.phases, key=lambda pair: pair[0].rate)
        check(by_rate[0][1], targets, by_rate[0][0].rate)
        for (_, richer), (phase, poorer) in itertools.pairwise(by_rate):
            check(poorer, targets, phase.rate, within=richer)
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
