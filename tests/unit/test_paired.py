"""The paired bootstrap against scipy-free theory, and two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flrc.pipeline import run
from flrc.records.__main__ import main
from flrc.records.paired import bootstrap


def test_interval_of_a_mean_difference() -> None:
    """Of many items the bootstrap's interval is the normal one: mean +- 1.96 standard errors."""
    draw = np.random.default_rng(3)
    first = draw.normal(20, 10, 2000)
    second = first + draw.normal(0.5, 2.0, 2000)
    found = bootstrap(first.tolist(), second.tolist())
    mean, error = (second - first).mean(), (second - first).std(ddof=0) / 2000**0.5
    assert found.second - found.first == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert found.above > 0.999
    # Paired: unpaired scores of this spread could not tell the two apart.
    assert found.high - found.low < 0.2 * (3.92 * 10 * (2 / 2000) ** 0.5)


def test_the_same_scores() -> None:
    found = bootstrap([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.low, found.high, found.above) == (0.0, 0.0, 0.5)


def test_by_hand() -> None:
    """Two items, differences 0 and 1: means 0, 0.5, 1 with chances 1/4, 1/2, 1/4."""
    found = bootstrap([0.0, 0.0], [0.0, 1.0])
    assert found.above == pytest.approx(0.25 / 2 + 0.75, abs=0.02)
    assert (found.low, found.high) == (0.0, 1.0)


def test_diff_compares_items(run_config: Callable[..., Any], monkeypatch: Any) -> None:
    overrides = [
        "evaluation=[summarization]",
        "evaluation.summarization.limit=6",
        "evaluation.summarization.max_new_tokens=8",
        "evaluation.summarization.max_prompt_tokens=400",
        "search=none",
        "rate=0.3",
    ]
    configs = [run_config(f"method={method}", *overrides) for method in ("svdllm", "flrc")]
    records = [run(config) for config in configs]
    assert all(record.run["status"] == "ok" for record in records), [r.run for r in records]
    console = Console(record=True, width=200)
    folder = Path(configs[0].paths.runs)
    ids = [record.run["id"] for record in records]
    assert main(["diff", "--runs", str(folder), *ids], console) == 0
    text = console.export_text()
    assert "paired bootstrap" in text
    assert "summarization/dialogsum rougeL" in text
    assert "prompt_tokens" not in text
