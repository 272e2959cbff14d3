"""Ranks from a file: the round trip, and every way in which the file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_plans import make_plans

from flrc.allocator.evidence import Evidence
from flrc.allocator.proportional import Proportional
from flrc.allocator.replay import Replay
from flrc.errors import UserError
from flrc.form.two_factor import TwoFactor
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target
from flrc.schedule.base import Schedule
from flrc.schedule.constant import Constant
from flrc.schedule.increasing import Increasing
from flrc.schedule.progressive import Progressive

FORM = TwoFactor()
TARGETS = [Target(f"t{i}", 64, 96, i, "q_proj", f"t{i}") for i in range(4)]
SCORES = {"t0": 1.0, "t1": 2.0, "t2": 3.0, "t3": 90.0}
THREE = Progressive(shares=[0.3, 0.4, 0.3], offsets=[-0.1, 0.0, 0.1])


def store(path: Path, schedule: Schedule, rate: float = 0.3) -> dict[str, Any]:
    plans = make_plans(Proportional(), schedule, TARGETS, FORM, Evidence(SCORES), rate)
    path.write_text(json.dumps(plans.to_json()))
    return plans.to_json()


@pytest.mark.parametrize(
    "schedule",
    [Constant(), Progressive(), Increasing(), THREE],
    ids=["constant", "progressive", "increasing", "three phases"],
)
def test_round_trip(schedule: Schedule, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    kept = store(path, schedule)
    again = make_plans(Replay(path=str(path)), schedule, TARGETS, FORM, Evidence(), 0.3)
    assert again.to_json() == kept


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    kept = store(path, Constant())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    again = make_plans(Replay(path=str(path)), Constant(), TARGETS, FORM, Evidence(), 0.3)
    assert again.to_json() == kept


def test_constant_and_phase_at_one_rate_may_differ(tmp_path: Path) -> None:
    """A phase at the run's own rate is bound to nest in the phase before: another plan."""
    path = tmp_path / "plan.json"
    kept = store(path, THREE)
    kept["phases"][1]["plan"]["ranks"]["t0"] = 1
    path.write_text(json.dumps(kept))
    again = make_plans(Replay(path=str(path)), THREE, TARGETS, FORM, Evidence(), 0.3)
    assert again.constant.ranks == kept["constant"]["ranks"]


def test_an_edited_plan_counts_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    kept = store(path, Constant())
    kept["constant"]["ranks"] = {"t0": 10, "t1": 10, "t2": 10, "t3": 10}
    kept["phases"] = []
    path.write_text(json.dumps(kept))
    (plan,) = make_plans(Replay(path=str(path)), Constant(), TARGETS, FORM, Evidence(), 0.3).all[:1]
    assert plan.realised == pytest.approx(1 - 4 * 10 * 160 / (4 * 64 * 96))
    assert not plan.exact  # it does not hold the rate it was stored under


@pytest.mark.parametrize("path", [None, "nowhere/plan.json"])
def test_a_path_is_needed(path: str | None) -> None:
    with pytest.raises(UserError, match="plan file"):
        Replay(path=path)


def allocate(path: Path, rate: float = 0.3) -> None:
    replay = Replay(path=str(path))
    replay.allocate(Evidence(), replay.budget(TARGETS, FORM, rate))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"constant": {}, "phases": []}', '{"constant": 3, "phases": []}'],
)
def test_a_file_that_is_not_a_plan(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        allocate(path)


def test_another_rate(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    store(path, Progressive())
    with pytest.raises(UserError, match="no plan for this rate") as caught:
        allocate(path, 0.25)
    assert caught.value.allowed == "0.2, 0.3, 0.4"


@pytest.mark.parametrize("change", ["missing", "renamed"])
def test_another_model(change: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    kept = store(path, Constant())
    rank = kept["constant"]["ranks"].pop("t2")
    if change == "renamed":
        kept["constant"]["ranks"]["other"] = rank
    kept["phases"] = []
    path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match="other targets"):
        allocate(path)


@pytest.mark.parametrize("rank", [0, -1, 65, 10**30, 2.5, 3.0, "3", True, [3], float("nan")])
def test_an_impossible_rank(rank: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    kept = store(path, Constant())
    kept["constant"]["ranks"]["t1"] = rank
    kept["phases"] = []
    path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match="impossible rank for t1"):
        allocate(path)


def test_the_content_counts_not_the_path(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    store(a, Constant())
    store(b, Constant())
    store(c, Constant(), 0.4)
    described = [Replay(path=str(path)).describe() for path in (a, b, c)]
    assert described[0] == described[1] != described[2]


ODD = [None, True, "x", [], {}, -1, 2, float("nan"), float("inf")]


@pytest.mark.parametrize("value", ODD, ids=str)
@pytest.mark.parametrize(
    "place",
    [
        ["constant"],
        ["constant", "requested"],
        ["constant", "realised"],
        ["constant", "exact"],
        ["constant", "ranks"],
        ["phases"],
        ["phases", 1],
        ["phases", 1, "begin"],
        ["phases", 1, "step"],
        ["phases", 1, "rate"],
        ["phases", 1, "plan"],
        ["phases", 1, "plan", "requested"],
        ["phases", 1, "plan", "ranks", "t1"],
    ],
    ids=lambda place: ".".join(map(str, place)),
)
def test_plans_that_cannot_be(place: list[Any], value: Any, tmp_path: Path) -> None:
    """In a plan file this is a user's error; in memory it is one that callers handle."""
    path = tmp_path / "plan.json"
    kept = store(path, Progressive())
    inner = kept
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    legal = {
        "exact": [True],
        "realised": [-1],
        "step": [None, 2],
        "phases": [[]],  # of an edited file, but not of a run
        "ranks": [{}],  # of a model without targets
        "t1": [None, 2],
    }
    path.write_text(json.dumps(kept))
    if any(type(value) is type(one) and value == one for one in legal.get(str(place[-1]), [])):
        if value != []:
            assert Plans.from_json(kept).to_json()["constant"] == kept["constant"]
        return
    with pytest.raises((AttributeError, LookupError, TypeError, ValueError)):
        Plans.from_json(kept)
    with pytest.raises(UserError, match=r"cannot be read|other targets"):
        allocate(path)


@pytest.mark.parametrize(
    ("starts", "legal"),
    [
        ([{"begin": 0.0}, {"begin": 0.5}, {"begin": 0.9}], True),
        ([{"begin": 0.0}, {"step": 1}, {"step": 7}], True),
        ([{"step": 0}, {"step": 3}], True),
        ([{"begin": 0.0}, {"begin": 0.5}, {"begin": 0.5}], True),
        ([], False),
        ([{}], False),
        ([{"begin": 0.5}], False),
        ([{"step": 1}], False),
        ([{"begin": 0.0}, {"begin": 0.5}, {"begin": 0.4}], False),
        ([{"begin": 0.0}, {"begin": 1.0}], False),
        ([{"begin": 0.0}, {"step": 0}], False),
        ([{"begin": 0.0}, {"step": 7}, {"step": 6}], False),
        ([{"begin": 0.0}, {"step": 1.5}], False),
        ([{"begin": 0.0}, {"step": -3}], False),
        ([{"begin": 0.0}, {"step": True}], False),
    ],
    ids=str,
)
def test_where_phases_begin(starts: list[dict[str, Any]], legal: bool, tmp_path: Path) -> None:
    kept = store(tmp_path / "plan.json", Constant())
    kept["phases"] = [{**start, "rate": 0.3, "plan": kept["constant"]} for start in starts]
    if legal:
        assert Plans.from_json(kept).to_json() == kept
        return
    with pytest.raises((KeyError, ValueError)):
        Plans.from_json(kept)


def test_nesting_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"constant": ' + "[" * 100_000)
    with pytest.raises(UserError, match=r"cannot be read"):
        allocate(path)
