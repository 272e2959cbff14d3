"""The framework as a library: the command line's runs, and models in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from tiny import compose

import flrc
from flrc.errors import UserError
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.sizes import target_parameters
from flrc.pipeline import run
from flrc.results.records.own_command import own_command

IDS = torch.arange(3, 30)[None]
TEXTS = ["a secret of the fox that ran over the hill " * 4, "and slept soon after that " * 6]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]


def record_files(root: Path) -> list[Path]:
    return sorted(root.rglob("record.json"))


def test_run_is_the_command_line(words: list[str], data_root: Path, tmp_path: Path) -> None:
    common = [
        "model=tiny", "method=flra", "data=folder", f"data.root={data_root}", "device=cpu",
        "calibration=wikitext2", "calibration.samples=4", "calibration.length=64",
        "evaluation=[perplexity]", "evaluation.perplexity.length=64",
    ]  # fmt: skip
    elsewhere = [f"paths.runs={tmp_path / 'others'}", f"paths.cache={tmp_path / 'other_cache'}"]
    expected = run(compose(*common, *elsewhere))
    record = flrc.run(*common, *words)
    assert record.run["status"] == "ok"
    assert record.run["id"] == expected.run["id"]
    assert record.results == expected.results
    assert record.meta["command"].startswith("flrc.run('model=tiny', 'method=flra', ")
    assert GlobalHydra.instance().hydra is None
    with pytest.raises(UserError, match=r"did you mean flrc"):
        flrc.run("method=flcr")
    with pytest.raises(UserError, match="share of the target parameters"):
        flrc.run("method=flra", "rate=20")
    with pytest.raises(UserError, match="cannot be parsed"):
        flrc.run("method")


def test_compressing_again_keeps_the_command_that_measured(words: list[str]) -> None:
    """What a record says can be repeated by its command; compressing alone measures nothing."""
    common = ["model=tiny", "data=sample", "device=cpu", "seed=0", *words]
    alone = flrc.compress("tiny", method="svd", overrides=["device=cpu", *words])[1]
    assert alone.meta["command"].startswith("flrc.compress('tiny', 'method=svd', ")
    perplexity = ["evaluation=[perplexity]", "evaluation.perplexity.length=64"]
    windows = "evaluation.perplexity.windows=1"
    measured = flrc.run(*common, "method=svd", *perplexity, windows)
    assert measured.run["id"] == alone.run["id"]
    again = flrc.compress("tiny", method="svd", overrides=["device=cpu", *words])[1]
    assert again.results["measurements"] == measured.results["measurements"]
    assert again.meta["command"] == measured.meta["command"]
    assert own_command(again, "model.save=true").startswith("flrc.run('model=tiny', ")


@pytest.mark.parametrize("method", ["svdllm", "flra", "flrc", "kfac_skip"])
def test_a_model_in_memory_becomes_what_a_saved_one_becomes(
    method: str, make_model: Callable[..., Any], tokenizer: Any, words: list[str], tmp_path: Path
) -> None:
    model = make_model("tiny_qwen2")
    dense = model(input_ids=IDS).logits
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    sequences = list(torch.randint(0, 250, (6, 40), generator=torch.Generator().manual_seed(2)))
    settings: dict[str, Any] = {
        "method": method, "rate": 0.3, "calibration": sequences,
        "overrides": [*words, "search=none"],
    }  # fmt: skip
    compressed, record = flrc.compress(model, tokenizer, **settings)
    assert compressed is model
    assert record.run["status"] == "ok"
    assert record.results["measurements"] == []
    targets = record.results["parameters"]
    names = [layer["target"] for layer in record.results["layers"]]
    assert target_parameters(model, names)[0] == targets["targets_activated"]
    assert targets["targets_activated"] <= 0.7 * targets["targets_dense"]
    assert not torch.equal(model(input_ids=IDS).logits, dense)

    path = f"model.path={tmp_path / 'saved'}"
    more = [*settings["overrides"], path, "device=cpu"]
    again, other = flrc.compress("local", **{**settings, "overrides": more})
    assert torch.equal(again(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert other.results["parameters"] == targets
    assert len(record_files(tmp_path / "runs")) == 2

    flrc.save(compressed, tmp_path / "kept")
    kept = flrc.load(tmp_path / "kept", "cpu")
    assert torch.equal(kept(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert flrc.generate(kept, "hello", max_new_tokens=8) == flrc.generate(
        compressed, "hello", max_new_tokens=8
    )
    # What was loaded can be saved again.
    flrc.save(kept, tmp_path / "twice")
    twice = flrc.load(tmp_path / "twice", "cpu")
    assert torch.equal(twice(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_texts_calibrate_and_stay_out_of_the_record(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], tmp_path: Path
) -> None:
    compressed, record = flrc.compress(
        make_model(), tokenizer, method="svdllm", calibration=TEXTS, overrides=words
    )
    assert low_rank_layers(compressed)
    (file,) = record_files(tmp_path / "runs")
    assert "secret" not in file.read_text()
    assert record.run["config"]["calibration"]["digest"]
    assert record.meta["command"].startswith("flrc.compress(")
    assert record.meta["command"].endswith("2 calibration sequences)")
    # Another text is another run; the same text is found again.
    for texts, count in ((TEXTS[::-1], 2), (TEXTS, 2)):
        flrc.compress(make_model(), tokenizer, method="svdllm", calibration=texts, overrides=words)
        assert len(record_files(tmp_path / "runs")) == count


def test_mistakes_are_reported_before_the_model_changes(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for arguments, message in (
        ({"method": "flcr"}, "did you mean flrc"),
        ({"method": "dense"}, "nothing would be compressed"),
        ({"rate": 0.0}, "nothing would be compressed"),
        ({"tokenizer": None}, "needs its tokenizer"),
        ({"calibration": ["a"]}, "too short"),
        ({"overrides": ["evaluation=[efficiency]"]}, "compared with the dense model"),
        ({"overrides": ["ratee=1"]}, "no key or group"),
        ({"rate": 0.999999, "method": "svdllm", "calibration": TEXTS}, "rate"),
    ):
        given: dict[str, Any] = {"tokenizer": tokenizer, **arguments}
        given["overrides"] = [*words, *given.get("overrides", [])]
        with pytest.raises(UserError, match=message):
            flrc.compress(model, **given)
    with pytest.raises(UserError, match="brings its own tokenizer"):
        flrc.compress("smollm2_135m", tokenizer)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_records_are_sent_where_the_configuration_says(
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flrc.tracking.wandb import Wandb

    sent: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        Wandb,
        "publish",
        lambda _, record, folder: sent.append(
            (record.run["id"], (folder / "record.json").is_file())
        ),
    )
    given = [*words, "tracker=wandb", "tracker.mode=offline"]
    _, record = flrc.compress(
        make_model(), tokenizer, method="svdllm", calibration=TEXTS, overrides=given
    )
    assert sent == [(record.run["id"], True)]
    again = flrc.run(
        "model=tiny",
        "method=svd",
        "evaluation=[perplexity]",
        "evaluation.perplexity.windows=1",
        "evaluation.perplexity.length=64",
        *given,
    )
    assert sent[1:] == [(again.run["id"], True)]
