"""Phases of a generation: where they begin, what they average to, what is rejected."""

from __future__ import annotations

import pytest

from flrc.errors import UserError
from flrc.plans.phase import Phase, first_steps
from flrc.schedule.constant import Constant
from flrc.schedule.increasing import Increasing
from flrc.schedule.progressive import Progressive


def average(phases: list[Phase]) -> float:
    ends = [phase.begin for phase in phases[1:]] + [1.0]
    return sum((e - p.begin) * p.rate for p, e in zip(phases, ends, strict=True))


def test_phases_by_hand() -> None:
    assert Constant().phases(0.2) == [Phase(0.0, 0.2)]
    assert Progressive().phases(0.2) == [Phase(0.0, 0.1), Phase(0.5, 0.3)]
    assert Increasing().phases(0.2) == [Phase(0.0, 0.3), Phase(0.5, 0.1)]
    three = Progressive(shares=[0.25, 0.25, 0.5], offsets=[-0.1, -0.1, 0.1])
    assert three.phases(0.3) == [Phase(0.0, 0.2), Phase(0.25, 0.2), Phase(0.5, 0.4)]


def test_uneven_shares_average_to_the_rate() -> None:
    schedule = Progressive(shares=[0.2, 0.3, 0.5], offsets=[-0.2, -0.1, 0.14])
    assert average(schedule.phases(0.3)) == pytest.approx(0.3)


def test_first_steps_are_rounded_to_the_nearest() -> None:
    phases = Progressive().phases(0.2)
    assert first_steps(phases, 48) == [0, 24]
    assert first_steps(phases, 5) == [0, 3]  # 2.5
    assert first_steps(phases, 1) == [0, 1]  # never reached: the prefill is step 0
    thirds = Progressive(shares=[1 / 3, 1 / 3, 1 / 3], offsets=[-0.1, 0.0, 0.1]).phases(0.2)
    assert first_steps(thirds, 10) == [0, 3, 7]  # 3.33, 6.67
    assert first_steps(thirds, 9) == [0, 3, 6]


@pytest.mark.parametrize(
    ("shares", "offsets", "field"),
    [
        ([0.5, 0.5], [0.0], "offsets"),
        ([], [], "offsets"),
        ([0.5, 0.6], [-0.1, 0.1], "shares"),
        ([1.5, -0.5], [-0.1, 0.1], "shares"),
        ([0.5, 0.5], [-0.1, 0.2], "offsets"),
        ([0.5, 0.5], [0.1, -0.1], "offsets"),
    ],
)
def test_what_does_not_fit_is_refused(
    shares: list[float], offsets: list[float], field: str
) -> None:
    with pytest.raises(UserError, match=f"progressive: {field}"):
        Progressive(shares=shares, offsets=offsets)


def test_increasing_may_not_decrease() -> None:
    with pytest.raises(UserError, match="non-increasing"):
        Increasing(offsets=[-0.1, 0.1])


@pytest.mark.parametrize("rate", [0.05, 0.95])
def test_no_phase_may_leave_the_range(rate: float) -> None:
    for schedule in (Progressive(), Increasing()):
        with pytest.raises(UserError, match=r"leaves \[0, 1\)"):
            schedule.phases(rate)


def test_the_lowest_rate_of_a_phase_is_zero() -> None:
    assert Progressive().phases(0.1)[0].rate == 0.0
