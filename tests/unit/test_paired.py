"""The intervals of paired differences against theory by hand, and two runs side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records_factory import measurement, record
from rich.console import Console

from flrc.data.dataset_catalog import MULTIPLE_CHOICE
from flrc.pipeline import run
from flrc.records import main
from flrc.results.records import paired
from flrc.results.records.paired import Items, averaged, bootstrap, compare, items_of, student
from flrc.results.records.store import RunFolder


def test_interval_of_a_mean_difference() -> None:
    """For many items the bootstrap interval is the normal one: mean +- 1.96 standard errors."""
    draw = np.random.default_rng(3)
    first = draw.normal(20, 10, 2000)
    second = first + draw.normal(0.5, 2.0, 2000)
    found = bootstrap(first.tolist(), second.tolist())
    mean, error = (second - first).mean(), (second - first).std(ddof=0) / 2000**0.5
    assert found.second - found.first == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert found.above > 0.999
    # Paired: with unpaired scores of this spread the difference would not be significant.
    assert found.high - found.low < 0.2 * (3.92 * 10 * (2 / 2000) ** 0.5)


def test_the_same_scores() -> None:
    found = bootstrap([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.low, found.high, found.above) == (0.0, 0.0, 0.5)


def test_by_hand() -> None:
    """Two items, differences 0 and 1: means 0, 0.5, 1 with chances 1/4, 1/2, 1/4."""
    found = bootstrap([0.0, 0.0], [0.0, 1.0])
    assert found.above == pytest.approx(0.25 / 2 + 0.75, abs=0.02)
    assert (found.low, found.high) == (0.0, 1.0)


def test_three_seeds_by_the_table_of_students_t() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1; 4.30265 for 95 % of two degrees of freedom."""
    found = student([10.0, 20.0, 40.0], [11.0, 23.0, 42.0])
    assert (found.items, found.second - found.first) == (3, pytest.approx(2.0))
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-6)
    # Two degrees of freedom have a distribution in closed form: 1/2 + t / (2 sqrt(2 + t^2)).
    t = 2 * 3**0.5
    assert found.above == pytest.approx(0.5 + t / (2 * (2 + t * t) ** 0.5))
    same = student([1.0, 2.0], [1.5, 2.5])
    assert (same.low, same.high, same.above) == (0.5, 0.5, 1.0)
    with pytest.raises(ValueError, match="one pair"):
        student([1.0], [2.0])


def test_scores_of_an_item_are_averaged_over_the_runs_that_have_it() -> None:
    one = {"e/p {}": {"a": {"rougeL": 1.0, "tokens": 3}, "b": {"rougeL": 5.0}}, "only": {}}
    two = {"e/p {}": {"a": {"rougeL": 2.0, "tokens": 4}}}
    assert averaged([one, two]) == {"e/p {}": {"a": {"rougeL": 1.5}}}
    right = {"t": {"a": {"correct": True, "gold": 1}}}
    assert averaged([right, {"t": {"a": {"correct": False}}}]) == {"t": {"a": {"acc": 50.0}}}
    assert averaged([one, {}]) == {}


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
    assert "\ndialogsum rougeL" in text
    assert "prompt_tokens" not in text


def answered(path: Path, tasks: dict[str, list[bool]], limits: tuple[int, ...] = (9,)) -> Items:
    """A run's items; its record has the measurements of the last limit only."""
    folder, measured = RunFolder(path), []
    for limit in limits:
        measured = []
        for task, correct in tasks.items():
            items = [
                {"id": str(i), "correct": right, "predicted": 1, "gold": 0, "loglikelihoods": [-1]}
                for i, right in enumerate(correct[: limit if len(limits) > 1 else None])
            ]
            settings = {"task": task, "limit": limit}
            measured.append(measurement(f"{task}/acc", 0.0, 0.2, settings=settings))
            values = {"evaluation": "zeroshot", "part": task, "settings": settings}
            values |= {"measurements": measured[-1:], "items": items}
            folder.write_json(f"evaluations/zeroshot.{task}-{limit}.json", values)
    return items_of(folder, record("flra", 0.2, measurements=measured))


def test_zero_shot_answers_and_their_mean_over_tasks(tmp_path: Path) -> None:
    """The mean is of the tasks' means, not of all answers; its variance the sum over the tasks."""
    draw = np.random.default_rng(5)
    sizes = {"piqa": 4000, "arc_easy": 1000}
    before = {task: draw.random(size) < 0.4 for task, size in sizes.items()}
    after = {task: right | (draw.random(len(right)) < 0.1) for task, right in before.items()}
    one, two = (
        answered(tmp_path / name, {t: r.tolist() for t, r in side.items()})
        for name, side in (("one", before), ("two", after))
    )
    found = {p.name: p for p in compare(one, two)}
    assert list(found) == [
        "zeroshot/arc_easy acc",
        "zeroshot/piqa acc",
        "zeroshot/zeroshot mean_acc_of_arc_easy+piqa",
    ]
    gains = {task: 100.0 * (after[task].astype(float) - before[task]) for task in sizes}
    assert found["zeroshot/piqa acc"].second == pytest.approx(100 * after["piqa"].mean())
    mean = found["zeroshot/zeroshot mean_acc_of_arc_easy+piqa"]
    gain = np.mean([g.mean() for g in gains.values()])
    error = np.sqrt(sum(g.var() / len(g) for g in gains.values())) / 2
    assert mean.second - mean.first == pytest.approx(gain)
    assert mean.low == pytest.approx(gain - 1.96 * error, abs=0.1 * error)
    assert mean.high == pytest.approx(gain + 1.96 * error, abs=0.1 * error)
    assert mean.items == 5000
    assert compare(one, two, only="/piqa acc") == [found["zeroshot/piqa acc"]]


@pytest.mark.parametrize("prefix", ["", "sample_"])
def test_the_mean_over_the_papers_tasks_has_its_name_in_the_records(
    tmp_path: Path, prefix: str
) -> None:
    run = answered(tmp_path, {f"{prefix}{task}": [True, False] for task in MULTIPLE_CHOICE})
    assert list(compare(run, run))[-1].name == f"zeroshot/{prefix}zeroshot mean_acc"


def test_no_mean_where_one_run_answered_more_tasks(tmp_path: Path) -> None:
    right = [True, False, True]
    one = answered(tmp_path / "one", {"piqa": right, "mathqa": right, "arc_easy": right})
    two = answered(tmp_path / "two", {"piqa": right, "mathqa": right})
    assert [p.name for p in compare(one, two)] == ["zeroshot/mathqa acc", "zeroshot/piqa acc"]


@pytest.mark.parametrize("limits", [(4, 9), (9, 4)])
def test_items_are_those_that_the_records_numbers_stand_on(
    tmp_path: Path, limits: tuple[int, int]
) -> None:
    """A folder keeps earlier evaluations; no interval may be computed from them."""
    wrong, right = [False] * 9, [True] * 9
    one = answered(tmp_path / "one", {"piqa": wrong}, limits)
    two = answered(tmp_path / "two", {"piqa": right}, limits)
    (found,) = compare(one, two)
    assert found.items == limits[-1]


def test_kept_resamples_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons of equally many items share their resamples; larger ones draw their own."""
    draw = np.random.default_rng(5)
    parts = [(draw.normal(size=n).tolist(), draw.normal(size=n).tolist()) for n in (40, 7)]
    kept = [paired.bootstrap_of_mean(parts), paired.bootstrap_of_mean(parts, seed=1)]
    drawn: list[int] = []
    resamples = paired._resamples
    monkeypatch.setattr(
        paired, "_resamples", lambda sizes, seed: (drawn.append(seed), resamples(sizes, seed))[1]
    )
    assert [paired.bootstrap_of_mean(parts), paired.bootstrap_of_mean(parts, seed=1)] == kept
    assert not drawn
    monkeypatch.setattr(paired, "KEPT", 0)
    assert [paired.bootstrap_of_mean(parts), paired.bootstrap_of_mean(parts, seed=1)] == kept
    assert drawn == [0, 1]
