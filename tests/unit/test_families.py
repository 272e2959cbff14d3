"""Whole runs on every family: compressed in memory, saved, and loaded by flrc and transformers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, STATEFUL, made
from transformers import AutoModelForCausalLM, pipeline

import flrc
from flrc.errors import UserError

IDS = torch.arange(3, 20)[None]


@pytest.mark.parametrize("name", [*FAMILIES, *STATEFUL])
def test_compressed_saved_and_loaded(name: str, tokenizer: Any, tmp_path: Path) -> None:
    model = made(name, torch.float32)
    dense = model(input_ids=IDS, use_cache=False).logits
    draw = torch.Generator().manual_seed(2)
    compressed, record = flrc.compress(
        model,
        tokenizer,
        method="svdllm",
        rate=0.3,
        calibration=list(torch.randint(3, 250, (4, 40), generator=draw)),
        overrides=[
            f"paths.runs={tmp_path / 'runs'}",
            f"paths.cache={tmp_path / 'cache'}",
            "model.partial=true",  # the gates of a tiny Recurrent Gemma are 6 % of its blocks
        ],
    )
    parameters = record.results["parameters"]
    assert parameters["targets_activated"] <= 0.7 * parameters["targets_dense"]
    with torch.no_grad():
        logits = compressed(input_ids=IDS, use_cache=False).logits
    assert not torch.equal(logits, dense)
    flrc.save(compressed, tmp_path / "kept")
    loaded = flrc.load(tmp_path / "kept", "cpu")
    assert not any(tensor.data_ptr() % 64 for tensor in loaded.state_dict().values())
    by_name = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    settings = {"max_new_tokens": 6, "do_sample": False}
    reply = compressed.generate(IDS, **settings)
    for other in (loaded, by_name):
        with torch.no_grad():
            assert torch.equal(other(input_ids=IDS, use_cache=False).logits, logits)
        assert torch.equal(other.generate(IDS, **settings), reply)
        decides(other, model)
    assert flrc.generate(loaded, "hello", max_new_tokens=4) == flrc.generate(
        compressed, "hello", max_new_tokens=4
    )


def decides(loaded: Any, base: Any) -> None:
    """What transformers decides by a class's name and module is decided as for the base."""
    for name in (
        "_supports_default_dynamic_cache",
        "_can_set_attn_implementation",
        "_can_set_experts_implementation",
        "is_custom_code",
    ):
        assert getattr(loaded, name)() == getattr(base, name)(), name
    assert loaded.loss_type == base.loss_type
    assert loaded._is_stateful == base._is_stateful


@pytest.mark.parametrize("name", ["bloom", "mamba2"])
def test_pipelines_know_every_base(
    name: str, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And generates what the model in memory does."""
    model = made(name, torch.float32)
    compressed, _ = flrc.compress(
        model,
        tokenizer,
        method="svdllm",
        rate=0.3,
        calibration=[list(range(3, 43))] * 2,
        overrides=[f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"],
    )
    flrc.save(compressed, tmp_path / "kept")
    monkeypatch.setattr("transformers.pipelines.base.logger.error", pytest.fail)
    writer = pipeline("text-generation", model=str(tmp_path / "kept"), device="cpu")
    ids = tokenizer("hello there", return_tensors="pt")["input_ids"]
    settings = {"max_new_tokens": 6, "do_sample": False}
    (found,) = writer("hello there", return_full_text=False, **settings)
    reply = compressed.generate(ids, **settings)[0, ids.shape[1] :]
    assert found["generated_text"] == tokenizer.decode(reply, skip_special_tokens=True)


@pytest.mark.parametrize("method", ["flrc", "kfac_skip", "skipcat", "asvd_alloc"])
@pytest.mark.parametrize("name", ["gptj", "xglm", "opt", "mpt"])
def test_other_methods(name: str, method: str, tokenizer: Any, tmp_path: Path) -> None:
    """On families that pass arguments by position or by name, or return tuples."""
    model = made(name, torch.float32)
    draw = torch.Generator().manual_seed(2)
    refused = (name, method) == ("xglm", "asvd_alloc")  # its masks are of a number of sequences
    with pytest.raises(UserError, match="one by one") if refused else nullcontext():
        _, record = flrc.compress(
            model,
            tokenizer,
            method=method,
            rate=0.3,
            calibration=list(torch.randint(3, 250, (4, 40), generator=draw)),
            overrides=[
                f"paths.runs={tmp_path / 'runs'}",
                f"paths.cache={tmp_path / 'cache'}",
                "search=none",
            ],
        )
        parameters = record.results["parameters"]
        assert parameters["targets_activated"] <= 0.7 * parameters["targets_dense"]
