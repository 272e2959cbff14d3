"""The search for a schedule waits until something depends on its phases, then completes the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import flrc
from flrc import pipeline
from flrc.form.pivoted import Pivoted
from flrc.models.layers.separate_linear import SeparateLinear
from flrc.pipeline import run
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.results.records.record import Record
from flrc.results.records.show import whole
from flrc.results.tables.derived import counts, derived
from flrc.results.tables.runs_table import RunsTable
from flrc.running import preflight
from flrc.running.identity import run_folder

SEARCHED = (
    "rate=0.3",
    "search=halving",
    "search.samples=2",
    "search.rounds=1",
    "search.switches=[2]",
    "search.drops=[0.1]",
    "search.max_new_tokens=6",
    "search.max_prompt_tokens=400",
)
GENERATES = (
    "evaluation=[perplexity,summarization]",
    "evaluation.summarization.datasets=[dialogsum]",
    "evaluation.summarization.limit=2",
    "evaluation.summarization.max_new_tokens=6",
    "evaluation.summarization.max_prompt_tokens=400",
)
TIMES = {"command", "overrides", "started", "stages", "schedule_search_seconds"}
"""What two records of one run may differ in."""

Make = Callable[..., Any]


def plain(record: Record) -> dict[str, Any]:
    """A record without its times and places, as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(record.to_json()))
    values["meta"] = {k: v for k, v in values["meta"].items() if k not in TIMES}
    del values["run"]["config"]["paths"]
    return values


def searches(record: Record) -> bool:
    """Whether the record holds phases, and what they store."""
    stored = "targets_stored" in record.results["parameters"]
    assert stored == ("model_stored" in record.results["bytes"]) == (not record.search_deferred)
    return stored


@pytest.mark.parametrize("method", ["flrc", "flrc_kfac_skip"], ids=["nested", "pivoted"])
def test_perplexity_first_then_text_is_both_at_once(
    method: str, run_config: Make, generated: list[int], tmp_path: Path
) -> None:
    base = (f"method={method}", *SEARCHED)
    first = run(run_config(*base))
    assert first.run["status"] == "ok", first.run
    assert generated == []
    assert not searches(first)
    assert "search" not in first.meta["tokens"]

    both = run(run_config(*base, *GENERATES))
    assert both.run["id"] == first.run["id"]
    assert sum(generated) > 0
    assert searches(both)
    assert "search" in both.meta["tokens"]
    assert both.measurements[: len(first.measurements)] == first.measurements
    (stage,) = [s for s in both.meta["stages"] if s["name"] == "perplexity wikitext2"]
    assert stage["cached"]

    at_once = run(run_config(*base, *GENERATES, f"paths.runs={tmp_path}/other"))
    assert plain(at_once) == plain(both)

    # A later command without text keeps what was found.
    wider = run(run_config(*base, "evaluation.perplexity.windows=1"))
    assert wider.results["phases"] == both.results["phases"]
    assert searches(wider)
    assert {m.name for m in wider.measurements} == {m.name for m in both.measurements}


def test_what_shows_a_record_shows_a_deferred_one(run_config: Make) -> None:
    config = run_config("method=flrc", *SEARCHED)
    record = run(config)
    assert record.results["phases"] == []
    assert record.results["schedule_search"] == {}
    assert all(layer["phase_ranks"] == [] for layer in record.results["layers"])
    assert record.results["parameters"]["targets_activated"] > 0
    known = counts(record)
    assert "activated" in known
    assert not {"stored", "model_stored", "model_bytes", "schedule_seconds"} & set(known)
    names = {m.name for m in derived(record)}
    assert "model/flops_of_dense" in names
    assert not {"model/bytes_of_dense", "targets/stored"} & names
    table = RunsTable([record])
    assert "stored" not in {column.metric for column in table.columns}
    assert any("has not been searched" in line for line in table.reading)
    assert whole(record)
    plan = json.loads((run_folder(config).path / "plan.json").read_text("utf-8"))
    assert plan["phases"] == []
    assert plan["constant"]["ranks"]


def test_a_saved_model_has_its_schedule(run_config: Make, generated: list[int]) -> None:
    base = ("method=flrc", *SEARCHED)
    assert not searches(run(run_config(*base)))
    config = run_config(*base, "model.save=true")
    saved = run(config)
    assert searches(saved)
    assert sum(generated) > 0
    model = flrc.load(run_folder(config).model)
    assert len(model.flrc.plans.phases) == len(saved.results["phases"])

    # A checkpoint alone does not make the record whole.
    folder = run_folder(config)
    folder.write_record(Record(saved.run, {**saved.results, "phases": []}, saved.meta))
    assert searches(run(config))


@pytest.mark.parametrize(
    "asked",
    [
        ("quantization=int8",),
        ("evaluation=[efficiency]", "evaluation.efficiency.batch_sizes=[1]",
         "evaluation.efficiency.prompt_tokens=4", "evaluation.efficiency.new_tokens=3",
         "evaluation.efficiency.repeats=1"),
    ],
    ids=["int8", "efficiency"],
)  # fmt: skip
def test_what_depends_on_the_phases_is_searched_at_once(
    asked: tuple[str, ...], run_config: Make
) -> None:
    """The scales of integers are those of all stored ranks; timed replies follow the schedule."""
    record = run(run_config("method=flrc", *SEARCHED, *asked))
    assert record.run["status"] == "ok", record.run
    assert searches(record)


def test_a_run_that_waited_for_a_search_keeps_it(
    run_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes share a run: one is deferred before the other has searched."""
    base = ("method=flrc", *SEARCHED)
    searched = run(run_config(*base, "model.save=true"))
    decide = preflight.searched_now
    answers = iter([False])
    monkeypatch.setattr(preflight, "searched_now", lambda *args: next(answers, decide(*args)))
    record = run(run_config(*base, "evaluation.perplexity.windows=1"))
    assert record.results["phases"] == searched.results["phases"]
    assert searches(record)


def test_nothing_generates_at_an_unknown_schedule() -> None:
    plans = Plans(RankPlan(0.3, 0.3, {"a": 4}), [])
    assert plans.all == [plans.constant]
    with pytest.raises(RuntimeError, match="has not been searched"):
        plans.by_step(8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rank_among_others_computes_as_it_does_alone(dtype: torch.dtype) -> None:
    """With a bias too, which is added before the result is rounded."""
    torch.manual_seed(0)
    linear = nn.Linear(24, 16).to(dtype)
    left_t, right = torch.randn(6, 16), torch.randn(6, 24)
    x = torch.randn(5, 24, dtype=dtype)
    form = Pivoted()
    (alone,) = form.build(left_t, right, [linear], False)
    layers: dict[int, Any] = {}
    for rank in (6, 3):
        (layer,) = form.build(left_t[:rank], right[:rank], [linear], False)
        layer.bias = None
        layers[rank] = layer
    among = SeparateLinear(layers, linear.bias.data, None)
    assert torch.equal(among(x), alone(x))


def test_a_failure_loses_no_schedule(run_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ("method=flrc", *SEARCHED)
    config = run_config(*base, "model.save=true")
    searched = run(config)
    folder = run_folder(config)

    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "decompose", fail)
        failed = run(run_config(*base, "evaluation.perplexity.windows=1"))
    assert failed.run["status"] == "failed"
    for record in (failed, run(run_config(*base, "evaluation.perplexity.windows=1"))):
        assert record.results["phases"] == searched.results["phases"]
        assert searches(record)
        assert record.meta["weights"] == searched.meta["weights"]

    # The plan or the checkpoint tell of the search where the record is lost.
    for name in ("record.json", "plan.json"):
        (folder.path / name).unlink()
        assert preflight.searched_now(run_config(*base), folder), name
    shutil.rmtree(folder.model)
    assert not preflight.searched_now(run_config(*base), folder)
