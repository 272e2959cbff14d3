"""Numbers that only an intended change may alter.

To update them: ``python tests/golden/numbers_of_today.py``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from numbers_of_today import FILE, METHODS, compute

GOLDEN: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


SCHEDULED = {"flrc": "flra", "flrc_kfac": "kfac"}
"""Methods that differ from another by their schedule alone."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compute(tmp_path_factory.mktemp("golden"))


def test_the_same_methods() -> None:
    assert list(GOLDEN) == list(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_golden(method: str, found: dict[str, Any]) -> None:
    now, then = found[method], GOLDEN[method]
    assert now["ranks"] == then["ranks"]
    assert now["phase_ranks"] == then["phase_ranks"]
    assert now["realised"] == pytest.approx(then["realised"], abs=1e-12)
    assert now["perplexity"] == pytest.approx(then["perplexity"], rel=1e-4)
    assert now["mean_relative_error"] == pytest.approx(then["mean_relative_error"], rel=1e-4)


def test_the_numbers_differ_between_methods() -> None:
    """A golden number that is the same for every method would not detect anything."""
    values = [
        GOLDEN[m]["perplexity"]["wikitext2/perplexity"] for m in METHODS if m not in SCHEDULED
    ]
    for i, one in enumerate(values):
        assert all(abs(one / other - 1) > 1e-3 for other in values[i + 1 :])
    # Perplexity uses the constant plan, whatever the schedule.
    for scheduled, constant in SCHEDULED.items():
        assert GOLDEN[scheduled]["perplexity"] == GOLDEN[constant]["perplexity"]
