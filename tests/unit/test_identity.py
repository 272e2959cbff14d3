"""The same id for the same computation, different ids for different ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny import write_data

from flrc.allocator.proportional import Proportional
from flrc.data.sample import Sample
from flrc.decomposition.whitened import Whitened
from flrc.results.records.measurement import Measurement, Outcome
from flrc.results.records.record import Record
from flrc.running.finished import finished
from flrc.running.identity import run_folder, run_id

if TYPE_CHECKING:
    from flrc.config import RunConfig


@pytest.mark.parametrize(
    "override",
    [
        "evaluation=[perplexity,summarization]",
        "evaluation.perplexity.windows=1",
        "tracker=wandb",
        "paths.runs=elsewhere",
        "paths.cache=elsewhere",
        "paths.cache_limit_gb=1",
        "device=auto",
        "model.label=another",
        "model.partial=true",
        "method.name=mine",
        "force=true",
        "+study=other",
        "rate=0.20",
    ],
)
def test_what_does_not_change_the_model_does_not_change_the_id(
    override: str, run_config: Callable[..., RunConfig]
) -> None:
    override = override.lstrip("+")
    assert run_id(run_config("method=flrc", override)) == run_id(run_config("method=flrc"))


def test_batch_size_does_not_change_the_id(run_config: Callable[..., RunConfig]) -> None:
    base = ("method=flrc", "evaluation=[summarization]")
    other = run_config(*base, "evaluation.summarization.batch_size=1")
    assert run_id(other) == run_id(run_config(*base))


@pytest.mark.parametrize(
    "override",
    [
        "rate=0.3",
        "seed=1",
        "dtype=float64",
        "threads=1",
        "model.seed=1",
        "model.shape=tiny_qwen2",
        "calibration.samples=5",
        "calibration.length=65",
        "calibration=c4",
        "decomposition=svd",
        "sensitivity=gradient",
        "sensitivity.reduction=aggregate",
        "allocator=uniform",
        "allocator.redistribution=round_robin",
        "allocator.minimum_rank=2",
        "schedule=constant",
        "schedule=increasing",
        "schedule.offsets=[-0.05,0.05]",
    ],
)
def test_what_changes_the_model_changes_the_id(
    override: str, run_config: Callable[..., RunConfig]
) -> None:
    base = ("method=flrc", "search=none")  # a search would not read the schedule's offsets
    assert run_id(run_config(*base, override)) != run_id(run_config(*base))


@pytest.mark.parametrize("component", [Whitened, Proportional])
def test_a_version_changes_the_id(
    component: type, run_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_id(run_config("method=flrc"))
    monkeypatch.setattr(component, "VERSION", 99)
    assert run_id(run_config("method=flrc")) != before


def test_the_content_of_the_data_counts_not_its_place(
    run_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    base = run_id(run_config("method=flrc"))
    copy = write_data(tmp_path / "copy")
    assert run_id(run_config("method=flrc", f"data.root={copy}")) == base
    other = write_data(tmp_path / "other", seed=1)
    assert run_id(run_config("method=flrc", f"data.root={other}")) != base
    # Evaluation data is not part of it.
    (copy / "wikitext2" / "test.jsonl").write_text(json.dumps({"text": "other"}) + "\n")
    assert run_id(run_config("method=flrc", f"data.root={copy}")) == base
    (copy / "wikitext2" / "train.jsonl").write_text(json.dumps({"text": "other"}) + "\n")
    assert run_id(run_config("method=flrc", f"data.root={copy}")) != base


def test_dense_is_one_run(run_config: Callable[..., RunConfig]) -> None:
    ids = {
        run_id(run_config("method=dense", f"rate={rate}", f"seed={seed}", f"calibration={text}"))
        for rate in (0.2, 0.3)
        for seed in (0, 1)
        for text in ("wikitext2", "c4")
    }
    assert len(ids) == 1


def test_rate_0_of_any_method_is_the_dense_model(run_config: Callable[..., RunConfig]) -> None:
    assert run_id(run_config("method=svdllm", "rate=0")) == run_id(run_config("method=dense"))


def test_what_reads_no_calibration_has_one_id(run_config: Callable[..., RunConfig]) -> None:
    base = run_id(run_config("method=svd"))
    for override in ("calibration=c4", "calibration.samples=7", "seed=3", "sensitivity=fisher"):
        assert run_id(run_config("method=svd", override)) == base
    # With an allocator whose scores are calibrated it is read after all.
    fisher = ("method=svd", "allocator=proportional", "sensitivity=fisher")
    assert run_id(run_config(*fisher)) != run_id(run_config(*fisher, "calibration.samples=7"))
    weight = ("method=svd", "allocator=proportional", "sensitivity=weight")
    assert run_id(run_config(*weight)) == run_id(run_config(*weight, "calibration.samples=7"))


def test_folder_names_components_and_rate(run_config: Callable[..., RunConfig]) -> None:
    config = run_config("method=flrc", "rate=0.3")
    folder = run_folder(config).path
    assert folder.name == f"whitened-proportional-progressive-r0.3-{run_id(config)}"
    assert folder.parent.name == "tiny"
    dense = run_folder(run_config("method=dense", "rate=0.3")).path
    assert dense.name.startswith("none-none-constant-r0-")


def test_ids_are_stable_text(run_config: Callable[..., RunConfig]) -> None:
    found = run_id(run_config("method=flrc"))
    assert len(found) == 10
    assert int(found, 16) >= 0


def test_a_run_is_not_done_without_the_mean_over_tasks_that_were_measured_one_by_one(
    run_config: Callable[..., RunConfig],
) -> None:
    tasks = "evaluation.zeroshot.tasks=[piqa,mathqa]"
    config = run_config("method=svd", "evaluation=[zeroshot]", tasks)
    config.data = Sample()
    folder, evaluation = run_folder(config), config.evaluation["zeroshot"]
    measured = []
    for task in ("piqa", "mathqa"):
        settings, name = evaluation.settings(task, config.data), f"sample_{task}"
        m = Measurement(f"{name}/acc", 50.0, "%", True, None, 2, settings, 0.2)
        folder.save_evaluation("zeroshot", name, settings, Outcome([m]))
        measured.append(m)
    run = {"id": run_id(config), "status": "ok", "method": "svd"}
    folder.write_record(Record(run, {"measurements": [vars(m) for m in measured]}, {}))
    assert finished(config, folder) is None
    measured += evaluation.summarise(measured)
    folder.write_record(Record(run, {"measurements": [vars(m) for m in measured]}, {}))
    assert finished(config, folder) is not None


@pytest.mark.parametrize("value", [12.5, math.inf, math.nan])
def test_a_run_is_done_whatever_its_numbers_are(
    value: float, run_config: Callable[..., RunConfig]
) -> None:
    config = run_config("method=svd", "evaluation.perplexity.datasets=[wikitext2]")
    folder = run_folder(config)
    evaluation = config.evaluation["perplexity"]
    settings = evaluation.settings("wikitext2", config.data)
    m = Measurement("wikitext2/perplexity", value, "perplexity", False, None, 2, settings, 0.2)
    folder.save_evaluation("perplexity", "wikitext2", settings, Outcome([m]))
    assert finished(config, folder) is None  # no record yet
    run = {"id": run_id(config), "status": "ok", "method": "svd"}
    folder.write_record(Record(run, {"measurements": [vars(m)]}, {}))
    assert finished(config, folder) is not None
    more = run_config("method=svd", "evaluation.perplexity.datasets=[wikitext2,c4]")
    assert finished(more, folder) is None
    folder.write_record(Record(run | {"status": "failed"}, {"measurements": [vars(m)]}, {}))
    assert finished(config, folder) is None
