"""LEMS on two layers, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from probing import FORM, FakeProbe, evidence, target, used

from flrc.allocator.divergence import Divergence
from flrc.allocator.probed_surrogate import ProbedSurrogate, depth_factors, surrogate
from flrc.errors import UserError

# 1600 parameters each, 80 a rank, dense from 20 on; 10 % are 160 parameters: measured at rank 2.
TARGETS = [target("a", 0, size=40), target("b", 1, size=40)]
MEASURED = {"a": 0.9, "b": 0.3}


def test_surrogate_by_hand() -> None:
    # Energies 9, 4, 1: 14, 5, 1, 0 are dropped at ranks 0 to 3; 0.2 was measured at rank 1.
    spectrum = torch.tensor([3.0, 2.0, 1.0])
    found = surrogate(spectrum, 1, Divergence(0.0, 0.2), "a")
    assert found.tolist() == pytest.approx([0.56, 0.2, 0.04, 0.0])
    assert surrogate(torch.zeros(3), 1, Divergence(0.0, 0.2), "a").tolist() == [0, 0, 0, 0]
    assert surrogate(spectrum, 1, Divergence(0.0, -1e-9), "a").min() == 0  # rounding below 0
    with pytest.raises(UserError, match="only a truncated to rank 1"):
        surrogate(spectrum, 1, Divergence(0.0, float("nan")), "a")


def test_depth_factors_by_hand() -> None:
    blocks = [target(n, b) for n, b in (("a", 0), ("b", 0), ("c", 1), ("d", 2))]
    # alpha 1: 1 + 1/2 + 1/3 = 11/6, 5/6, 1/3; over the first: 1, 5/11, 2/11.
    assert depth_factors(blocks, 1.0, 2.0) == pytest.approx([3, 3, 1 + 10 / 11, 1 + 4 / 11])
    assert depth_factors(blocks, 0.0, 3.0) == pytest.approx([4, 4, 3, 2])  # 3, 2, 1 over 3
    assert depth_factors(blocks, 2.0, 0.0) == [1, 1, 1, 1]


def run(rate: float, divergence: Any = None, **fields: Any) -> tuple[Any, list[Any]]:
    """All singular values are 1: ``e(k) = KL (40 - k) / 38``, and 0 for the dense layer."""
    probe = FakeProbe(
        lambda name, _: Divergence(0.0, MEASURED[name]),
        lambda ranks: Divergence(0.0, 0.1 if divergence is None else divergence(ranks)),
    )
    samples: list[int | None] = []
    allocator = ProbedSurrogate(**{"multiple": 4, "gamma": 1e-9, "trials": 1, **fields})
    allocator.check_reachable(TARGETS, FORM, rate)
    known = evidence(probe, samples, lambda _: torch.ones(40))
    plan = allocator.allocate(known, allocator.budget(TARGETS, FORM, rate))
    assert samples == [32]
    assert probe.asked[:2] == [
        ("announce", "probed_surrogate", 2, allocator.trials),
        {"a": [2], "b": [2]},
    ]
    assert (1 - rate) * 3200 - 80 < used(plan, TARGETS) <= (1 - rate) * 3200
    return plan.ranks, probe.asked[2:]


def test_the_cheaper_error_is_cut() -> None:
    # 2400 parameters; choices 8, 12, 16 (ratio 0.4 to 0.8) or dense. a dense (1600) and b at 8
    # (640) give 0.3 * 32 / 38 = 0.25; b dense and a at 8 0.76; both at 12 0.88. 160 are left: 10.
    assert run(0.25)[0] == {"a": None, "b": 10}


def test_above_half_lower_ratios_are_allowed() -> None:
    # 800 parameters; choices from 4 (ratio 0.2, at least 0.1): both at 4 are 640; 8 and 4 are too
    # many. The 2 ranks that are left go to a, which loses more by them.
    assert run(0.75)[0] == {"a": 6, "b": 4}


def test_what_the_choices_do_not_reach_is_refused() -> None:
    # Ratio 0.6 or more: 12 ranks, 960 parameters, twice 1920 of 3200: 1 - 0.6 = 0.4.
    allocator = ProbedSurrogate(multiple=4, ratios=[0.6, 0.95])
    allocator.check_reachable(TARGETS, FORM, 0.4)
    with pytest.raises(UserError, match=r"rate up to 0\.4000") as caught:
        allocator.check_reachable(TARGETS, FORM, 0.45)
    assert "allocator.ratios," in str(caught.value)


def test_the_trial_of_least_divergence_wins() -> None:
    # Only the depth factor differs between trials; this model would rather have ``a`` cut.
    def divergence(ranks: Mapping[str, int | None]) -> float:
        return float(20 if ranks["a"] is None else ranks["a"])

    plan, asked = run(0.4, divergence, trials=6, gamma=7.0)
    assert len(asked) == 6
    assert plan == min(asked, key=divergence)
    again = run(0.4, divergence, trials=6, gamma=7.0)
    assert again == (plan, asked)


def test_depth_decides_between_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURED, "a", 0.3)
    monkeypatch.setitem(MEASURED, "b", 0.33)
    assert run(0.25)[0] == {"a": 10, "b": None}  # without depth b, that loses more, is kept
    # Seed 0 draws alpha = 1.6, gamma = 5.0: a counts 6.0, b 1 + 5 * 0.33 / 1.33 = 2.2 times.
    assert run(0.25, gamma=7.0)[0] == {"a": None, "b": 10}


@pytest.mark.parametrize(
    "bad",
    [
        {"probe_ratio": 0.0},
        {"multiple": 0},
        {"ratios": [0.5]},
        {"ratios": [0.9, 0.5]},
        {"ratios_high": [0.1, 1.1]},
        {"alpha": 0.0},
        {"gamma": 0.0},
        {"trials": 0},
        {"seed": -1},
        {"samples": 0},
    ],
)
def test_ranges(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ProbedSurrogate(**bad)
