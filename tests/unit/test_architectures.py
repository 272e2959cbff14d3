"""Architectures that are not a plain stack of linear layers: really compressed, or rejected.

Whole runs in memory. What is compressed is also factored at full rank, which must change nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import MULTIMODAL, PARTIAL, RECURRENT, UNFIT, made
from torch import nn

import flrc
from flrc.errors import UserError
from flrc.form.surgery import compress
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.targets import find_targets
from flrc.plans.rank_plan import RankPlan
from flrc.results.records.record import Record

IDS = torch.arange(3, 43)[None]


def model_of(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """The model without zero weights: xLSTM initialises half of its weights to zero."""
    model = made(name, dtype)
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1, generator=draw)
    return model


def run(model: Any, tokenizer: Any, folder: Path, *words: str) -> tuple[Any, Record]:
    """SVD-LLM at 30 %."""
    draw = torch.Generator().manual_seed(2)
    return flrc.compress(
        model,
        tokenizer,
        method="svdllm",
        rate=0.3,
        calibration=list(torch.randint(3, 250, (4, 40), generator=draw)),
        overrides=[f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}", *words],
    )


def check_compressed(name: str, tokenizer: Any, folder: Path, *words: str) -> None:
    """The counts are those of the model and the logits differ; at full rank they are the same."""
    model = model_of(name)
    with torch.no_grad():
        dense = model(input_ids=IDS, use_cache=False).logits
    compressed, record = run(model, tokenizer, folder, *words)
    parameters = record.results["parameters"]
    assert parameters["targets_activated"] <= 0.7 * parameters["targets_dense"]
    held = sum(parameter.numel() for parameter in compressed.parameters())
    assert held == parameters["model_stored"]
    with torch.no_grad():
        logits = compressed(input_ids=IDS, use_cache=False).logits
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits, dense)

    model = model_of(name)
    targets = find_targets(model)
    ranks: dict[str, int | None] = {t.name: min(t.d_out, t.d_in) for t in targets}
    weights = {t.name: t.weight(model).clone() for t in targets}

    def factors(target: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        left, values, right = torch.linalg.svd(weights[target], full_matrices=False)
        return (left * values).T[:rank], right[:rank]

    compress(model, targets, [RankPlan.of(0.0, ranks, targets, TwoFactor())], TwoFactor(), factors)
    with torch.no_grad():
        full = model(input_ids=IDS, use_cache=False).logits
    close = 1e-3 * float(dense.abs().max())
    torch.testing.assert_close(full, dense, rtol=0, atol=close)


@pytest.mark.parametrize("name", [*RECURRENT, *MULTIMODAL])
def test_whole_models_are_compressed(name: str, tokenizer: Any, tmp_path: Path) -> None:
    check_compressed(name, tokenizer, tmp_path)


@pytest.mark.parametrize("name", PARTIAL)
def test_much_is_left_out_only_if_it_may_be(name: str, tokenizer: Any, tmp_path: Path) -> None:
    """Whether or not their forward pass runs without weights."""
    with pytest.raises(UserError, match="matrix parameters would not be compressed"):
        run(model_of(name), tokenizer, tmp_path)
    assert not (tmp_path / "cache").exists() or not any((tmp_path / "cache").iterdir())
    check_compressed(name, tokenizer, tmp_path, "model.partial=true")


REFUSALS = {
    "gemma3n_text": r"Gemma3nForCausalLM: block 0 receives \(4, 1, 16, 48\)",
    "reformer": "does not pass hidden states from block to block",
    "zamba": "several places",
    "cpmant": r"CpmAntForCausalLM: block 0 receives \(1, 24, 48\)",
    "hrm_text": "18 calls of 3 blocks",
    "xlm": "the input of block 1 is off",
    "gpt2": r"no torch.nn.Linear layer",
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_walked_through_is_refused(
    name: str, tokenizer: Any, tmp_path: Path
) -> None:
    """With the reason, and without a record of a failed run."""
    model = model_of(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=REFUSALS[name]):
        run(model, tokenizer, tmp_path, "model.partial=true")
    assert not list(tmp_path.rglob("record.json"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
