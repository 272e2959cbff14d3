"""The garbage collector around the imports of large libraries."""

from __future__ import annotations

import gc
import sys

import pytest

from flrc.core.imports import uncollected


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A list that gets an element each time objects are frozen."""
    calls: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(gc.isenabled()))
    return calls


def test_nothing_is_collected_while_torch_is_imported(
    frozen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [False]


def test_models_of_earlier_jobs_can_be_collected(frozen: list[bool]) -> None:
    """Those that wait for the collector would be kept if they were frozen with the modules."""
    assert "torch" in sys.modules
    with uncollected():
        assert gc.isenabled()
    assert not frozen
