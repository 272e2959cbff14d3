"""The search for a schedule: rates by hand, halving on simulated trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flrc.errors import UserError
from flrc.plans.phase import Phase, first_steps
from flrc.search.candidates import Candidate, grid, rounds
from flrc.search.tournament import Trial, tournament


def average(phases: list[Phase], lengths: list[int]) -> float:
    """Step by step."""
    starts = first_steps(phases, 10**6)
    rates = []
    for length in lengths:
        for step in range(length):
            reached = [p for s, p in zip(starts, phases, strict=True) if s <= step]
            rates.append(reached[-1].rate)
    return sum(rates) / len(rates)


def test_rates_by_hand() -> None:
    """Replies of 10 and 20 steps, a switch after 5: 20 of 30 steps are in the second phase."""
    phases = Candidate(5, 0.1).phases(0.2, [10, 20])
    assert phases == [Phase(0.0, 0.133), Phase(0.0, 0.233, step=5)]  # 0.2 - 0.1 * 2 / 3
    # Only the prefill at the lower rate; a reply of one token never leaves it.
    assert Candidate(1, 0.2).phases(0.3, [1, 4]) == [Phase(0.0, 0.18), Phase(0.0, 0.38, step=1)]
    assert Candidate(5, -0.1).phases(0.2, [10, 20]) == [
        Phase(0.0, 0.267),
        Phase(0.0, 0.167, step=5),
    ]
    assert Candidate().phases(0.2, []) == [Phase(0.0, 0.2)]


def test_no_phase_is_dense_or_gone() -> None:
    assert Candidate(1, 0.2).phases(0.1, [20]) is None  # 0.1 - 0.2 * 19 / 20
    assert Candidate(19, 0.9).phases(0.2, [20]) is None  # 0.155 + 0.9
    assert Candidate(1, -0.2).phases(0.005, [20]) is None


@given(
    switch=st.integers(1, 30),
    drop=st.sampled_from([0.05, 0.1, -0.1]),
    rate=st.floats(0.15, 0.8),
    lengths=st.lists(st.integers(1, 48), min_size=1, max_size=20),
)
def test_the_average_over_realised_steps_is_the_rate(
    switch: int, drop: float, rate: float, lengths: list[int]
) -> None:
    phases = Candidate(switch, drop).phases(rate, lengths)
    assert phases is not None
    assert average(phases, lengths) == pytest.approx(rate, abs=0.0006)


def test_grid_and_rounds() -> None:
    assert grid([1, 8], [0.1], 1, with_constant=True) == [
        Candidate(),
        Candidate(1, 0.1),
        Candidate(8, 0.1),
    ]
    assert grid([4], [0.1, 0.2], -1, with_constant=False) == [
        Candidate(4, -0.1),
        Candidate(4, -0.2),
    ]
    assert rounds(32, 3) == [8, 16, 32]
    assert rounds(5, 3) == [2, 3, 5]
    assert rounds(1, 3) == [1]


def made_up(quality: Callable[[list[Phase], int], float], length: int = 10) -> Any:
    asked: list[tuple[tuple[float, ...], range]] = []

    def trial(phases: list[Phase], numbers: range) -> Trial | str:
        asked.append((tuple(phase.rate for phase in phases), numbers))
        return Trial([quality(phases, n) for n in numbers], [length for _ in numbers], 0.2, 0.9)

    return trial, asked


def test_the_better_half_goes_on_and_the_best_wins() -> None:
    """Larger drops are better here: 0.3 must win, the two smallest must go after round 1."""
    drops = [0.05, 0.1, 0.2, 0.3]
    candidates = grid([5], drops, 1, with_constant=True)
    trial, asked = made_up(lambda phases, _: phases[-1].rate - phases[0].rate)
    best, rows = tournament(candidates, 0.4, [2, 4, 8], trial)
    assert best == [Phase(0.0, 0.25), Phase(0.0, 0.55, step=5)]  # half of the ten steps
    assert [row["drop"] for row in rows] == [0.3, 0.2, 0.0, 0.1, 0.05]
    assert [row["items"] for row in rows] == [8, 8, 8, 4, 2]
    fates = ["chosen", "last round", "last round"]
    assert [row["fate"] for row in rows[:3]] == fates
    assert rows[3]["fate"] == "dropped after round 2"
    assert rows[4]["fate"] == "dropped after round 1"
    assert rows[0]["score"] == pytest.approx(0.3)
    # No item is generated twice; only the constant schedule gives the first lengths.
    seen: dict[float, list[int]] = {}
    for rates, numbers in asked[1:]:
        seen.setdefault(round(rates[-1] - rates[0], 6), []).extend(numbers)
    assert all(sorted(items) == list(range(len(items))) for items in seen.values())


def test_constant_stays_to_the_end_and_wins_a_tie() -> None:
    trial, _ = made_up(lambda phases, _: -1.0 if len(phases) == 1 else 0.0)
    _, rows = tournament(grid([5], [0.1, 0.2, 0.3], 1, True), 0.4, [1, 2, 4], trial)
    (constant,) = [row for row in rows if row["drop"] == 0]
    assert constant["items"] == 4
    assert constant["fate"] == "last round"
    trial, _ = made_up(lambda *_: 0.0)
    best, rows = tournament(grid([5], [0.1, 0.2], 1, True), 0.4, [1, 2], trial)
    assert best == [Phase(0.0, 0.4)]
    assert rows[0]["fate"] == "chosen"


def test_rates_follow_the_lengths_of_a_candidates_own_replies() -> None:
    """Constant replies have 10 steps, those under the schedule 40."""

    def trial(phases: list[Phase], numbers: range) -> Trial:
        return Trial([len(phases)] * len(numbers), [10 if len(phases) == 1 else 40] * 2, 0.2, 0.9)

    best, _ = tournament([Candidate(), Candidate(5, 0.2)], 0.4, [2, 4], trial)
    assert best == [Phase(0.0, 0.225), Phase(0.0, 0.425, step=5)]  # 0.4 - 0.2 * 35 / 40
    # A single round: the rate it was scored with is not the one its replies require.
    best, rows = tournament([Candidate(), Candidate(5, 0.2)], 0.4, [2], trial)
    assert best == [Phase(0.0, 0.225), Phase(0.0, 0.425, step=5)]
    assert rows[0]["phases"] == [{"step": 0, "rate": 0.225}, {"step": 5, "rate": 0.425}]


def test_what_is_best_only_before_its_rates_are_settled_is_not_chosen() -> None:
    def trial(phases: list[Phase], numbers: range) -> Trial:
        if len(phases) == 1:
            return Trial([1.0] * len(numbers), [10] * len(numbers), 0.4, 0.6)
        good = phases[0].rate == 0.3  # with the constant schedule's lengths, not with its own
        return Trial([2.0 if good else 0.5] * len(numbers), [40] * len(numbers), 0.4, 0.7)

    best, rows = tournament([Candidate(), Candidate(5, 0.2)], 0.4, [2], trial)
    assert best == [Phase(0.0, 0.4)]
    assert [row["score"] for row in rows] == [1.0, 0.5]


def test_what_cannot_run_says_why() -> None:
    def trial(phases: list[Phase], numbers: range) -> Trial | str:
        if len(phases) > 1:
            return "stores 1.300 of the dense parameters"
        return Trial([1.0] * len(numbers), [10] * len(numbers), 0.2, 0.8)

    _, rows = tournament([Candidate(), Candidate(5, 0.1), Candidate(5, 0.9)], 0.2, [2], trial)
    assert [row["fate"] for row in rows] == [
        "chosen",
        "stores 1.300 of the dense parameters",
        "a phase's rate leaves (0, 1)",
    ]
    with pytest.raises(UserError, match="no schedule of the search can be run"):
        tournament([Candidate(5, -0.1)], 0.2, [2], trial)
    with pytest.raises(UserError, match="not even the constant"):
        tournament([Candidate()], 0.2, [2], lambda *_: "stores too much")
