"""The progress bar: silent in a file; on a terminal it shows progress, time left and memory."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import StageCache
from flrc.core.progress import progress
from flrc.decomposition.statistics import Statistics
from flrc.decomposition.svd import Svd
from flrc.decomposition.whitened import Whitened
from flrc.models.anatomy.targets import find_targets
from flrc.running.factors import factorise
from flrc.running.profiling import Stages


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    assert list(progress(range(3), "counting", 3)) == [0, 1, 2]
    assert not out.getvalue()


def test_a_terminal_shows_memory_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    held = []
    for number in progress(range(4), "calibrating, block by block", 4):
        held.append(b"x" * 50_000_000 * (number == 1))
        time.sleep(0.25)
    text = out.getvalue()
    assert "calibrating, block by block" in text
    assert "3/4" in text
    assert "00:00<00:00" in text or "<00:" in text
    shown = [float(part.split(" GB")[0]) for part in text.split(", ")[1:] if " GB" in part]
    assert shown
    assert shown == sorted(shown)
    assert 0.05 < shown[-1] < 50


def test_a_bar_within_another_takes_its_line_and_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    for _ in progress(range(2), "outer", 2):
        assert list(progress(range(2), "inner", 2)) == [0, 1]
        last = [part for part in out.getvalue().split("\r") if part.strip()][-1]
        assert last.startswith("outer"), out.getvalue()
    assert "\n" not in out.getvalue(), "one line"


@pytest.mark.parametrize("whitened", [True, False])
def test_blocks_are_shown_whatever_the_cache_holds(
    whitened: bool,
    make_model: Callable[..., Any],
    sequences: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model()
    dense, cache = DenseModel(model, find_targets(model), sequences), StageCache(tmp_path, 1 << 40)
    shown = []
    for decomposition in [Whitened(), Whitened(cutoff=1e-12)] if whitened else [Svd()]:
        out = Terminal()
        monkeypatch.setattr("sys.stderr", out)
        kept = cache.entry("statistics", {}) if whitened else None
        statistics = Statistics(decomposition, dense, kept)
        factorise(statistics, cache.entry("factors", decomposition.describe()), Stages())
        shown.append(out.getvalue().split("\r")[1].partition(":")[0])
    first, *later = shown
    assert (first == "calibrating and decomposing, block by block") is whitened
    assert all(doing == "decomposing, block by block" for doing in [*later] or [first])
