"""Whole runs on every family: compressed in memory, saved, and loaded by flrc and transformers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, made
from transformers import AutoModelForCausalLM

import flrc
from flrc.errors import UserError

IDS = torch.arange(3, 20)[None]


@pytest.mark.parametrize("name", FAMILIES)
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
        overrides=[f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"],
    )
    parameters = record.results["parameters"]
    assert parameters["targets_activated"] <= 0.7 * parameters["targets_dense"]
    with torch.no_grad():
        logits = compressed.model(input_ids=IDS, use_cache=False).logits
    assert not torch.equal(logits, dense)
    flrc.save(compressed, tmp_path / "kept")
    loaded = flrc.load(tmp_path / "kept", "cpu")
    assert not any(tensor.data_ptr() % 64 for tensor in loaded.model.state_dict().values())
    by_name = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    with torch.no_grad():
        for other in (loaded.model, by_name):
            assert torch.equal(other(input_ids=IDS, use_cache=False).logits, logits)
    assert flrc.generate(loaded, "hello", max_new_tokens=4) == flrc.generate(
        compressed, "hello", max_new_tokens=4
    )


@pytest.mark.parametrize("method", ["flrc", "kfac_skip", "skipcat", "asvd_alloc"])
@pytest.mark.parametrize("name", ["gptj", "xglm", "opt", "mpt"])
def test_other_methods(name: str, method: str, tokenizer: Any, tmp_path: Path) -> None:
    """On families that hand arguments on by position or by name, or return tuples."""
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
