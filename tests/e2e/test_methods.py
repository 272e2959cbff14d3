"""Every preset, from its name to a record, on architectures that differ from the default model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import CONF, compose

from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.pipeline import run

PRESETS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
REPLIES = [
    "search.samples=2",
    "search.rounds=1",
    "search.switches=[2,4]",
    "search.max_new_tokens=8",
]
CHEAP = {
    "asvd": ["allocator.samples=1", "allocator.ratios=[0.4,0.9]"],
    "asvd_alloc": ["allocator.samples=1", "allocator.ratios=[0.4,0.9]"],
    "atp": ["allocator.samples=1", "allocator.slopes=3"],
    "bolaco_alloc": ["allocator.samples=1", "allocator.trials=3"],
    "flrc": REPLIES,
    "flrc_kfac": REPLIES,
    "flrc_kfac_skip": REPLIES,
    "lems": ["allocator.samples=1", "allocator.trials=2"],
    "plrd": REPLIES,
    "prunergpt_alloc": ["sensitivity.samples=2"],
}
"""Searches on less than the published samples."""
ALLOCATING = {"asvd", "asvd_alloc", "atp", "bolaco_alloc", "lems"}
"""Those whose allocators search."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Any]) -> Any:
    """Tiny models on disk, by shape."""
    folder = tmp_path_factory.mktemp("models")
    for shape in ("tiny_llama", "tiny_qwen2"):
        make_model(shape).save_pretrained(folder / shape)
        byte_tokenizer().save_pretrained(folder / shape)
    return folder


@pytest.mark.parametrize("shape", ["tiny_llama", "tiny_qwen2"])
@pytest.mark.parametrize("preset", PRESETS)
def test_preset(preset: str, shape: str, saved: Path, data_root: Path) -> None:
    record = run(
        compose(
            f"method={preset}",
            "model=local",
            f"model.path={saved / shape}",
            "data=folder",
            f"data.root={data_root}",
            "calibration=wikitext2",
            "calibration.samples=4",
            "calibration.length=64",
            "evaluation=[perplexity]",
            "evaluation.perplexity.length=128",
            "evaluation.perplexity.windows=2",
            "device=cpu",
            "rate=0.3",
            f"paths.runs={saved / 'runs'}",
            f"paths.cache={saved / 'cache'}",
            *CHEAP.get(preset, []),
        )
    )
    assert record.run["status"] == "ok", record.run
    results = record.results
    if preset == "dense":
        return
    counts = results["parameters"]
    # The tiny model has 21 small layers: one rank is a large step.
    assert 0.3 - 1e-9 <= results["rate"]["realised"] < 0.32
    assert counts["targets_activated"] == round(
        (1 - results["rate"]["realised"]) * counts["targets_dense"]
    )
    assert any(layer["rank"] is not None for layer in results["layers"])
    assert (results["search"]["probes"] > 0) == (preset in ALLOCATING)


@pytest.mark.parametrize("allocator", ["uniform", "proportional"])
def test_what_reads_no_calibration_needs_no_calibration_data(
    allocator: str, saved: Path, data_root: Path, tmp_path: Path
) -> None:
    """Plain SVD, with uniform ranks or ranks by the weights' norms, on a folder of test text."""
    (tmp_path / "data" / "wikitext2").mkdir(parents=True)
    text = (data_root / "wikitext2" / "test.jsonl").read_text("utf-8")
    (tmp_path / "data" / "wikitext2" / "test.jsonl").write_text(text, "utf-8")
    record = run(
        compose(
            "method=svd",
            f"allocator={allocator}",
            "sensitivity=weight",
            "model=local",
            f"model.path={saved / 'tiny_llama'}",
            "data=folder",
            f"data.root={tmp_path / 'data'}",
            "calibration=wikitext2",
            "evaluation=[perplexity]",
            "evaluation.perplexity.datasets=[wikitext2]",
            "evaluation.perplexity.length=128",
            "evaluation.perplexity.windows=1",
            "device=cpu",
            f"paths.runs={tmp_path / 'runs'}",
            f"paths.cache={tmp_path / 'cache'}",
        )
    )
    assert record.run["status"] == "ok", record.run
