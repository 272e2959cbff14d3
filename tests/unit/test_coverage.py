"""Parameters of decoder blocks outside all targets: counted, reported, rejected, recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, RECURRENT, made

import flrc
from flrc.errors import UserError
from flrc.models.anatomy.target_coverage import Coverage, check_coverage, coverage
from flrc.models.anatomy.targets import find_targets

# Mixtral of width 48: three blocks of four experts with 2 x 96 + 96 rows, and a router.
EXPERTS = 3 * 4 * 3 * 96 * 48
ROUTERS = 3 * 4 * 48
ATTENTION = 3 * (2 * 48 + 2 * 24) * 48


def test_experts_and_routers_are_counted() -> None:
    model = made("mixtral", torch.float32)
    found = coverage(model, find_targets(model))
    assert found.matrices == EXPERTS + ROUTERS + ATTENTION
    assert found.uncovered == EXPERTS + ROUTERS
    assert found.example == "model.layers.0.mlp.experts.gate_up_proj (4, 192, 48)"


@pytest.mark.parametrize("name", [*FAMILIES, *RECURRENT])
def test_plain_models_are_covered(name: str) -> None:
    """Norms, biases and depthwise kernels are not matrices."""
    model = made(name, torch.float32)
    assert coverage(model, find_targets(model)).to_json() == {}


def test_shared_parameters_count_once() -> None:
    model = made("llama", torch.float32)
    targets = find_targets(model)
    before = coverage(model, targets).matrices
    shared = torch.nn.Parameter(torch.ones(3, 5))
    for layer in model.model.layers:
        layer.adapter = shared
    found = coverage(model, targets)
    assert (found.matrices, found.uncovered) == (before + 15, 15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["mixtral", "dbrx"])
def test_the_refusal_is_the_same_at_every_dtype(
    name: str, dtype: torch.dtype, tokenizer: Any, tmp_path: Path
) -> None:
    """Whatever the kernels of experts accept, with and without weights."""
    model = made(name, dtype)
    model.config.dtype = dtype
    with pytest.raises(UserError) as caught:
        compress(model, tokenizer, tmp_path)
    share = 100 * coverage(model, find_targets(made(name, torch.float32))).share
    assert caught.value.problem == (
        f"{share:.0f}% of the decoder blocks' matrix parameters would not be compressed"
    )
    assert f"rate=0.3 removes {0.3 * (100 - share):.1f}% of the blocks" in str(caught.value.given)
    assert "model.partial=true" in str(caught.value.fix)


def compress(model: Any, tokenizer: Any, folder: Path, *words: str) -> Any:
    return flrc.compress(
        model,
        tokenizer,
        method="svdllm",
        rate=0.3,
        calibration=[list(range(3, 40)), list(range(50, 80))],
        overrides=[f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}", *words],
    )


def test_a_partial_run_reports_and_records_it(
    tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _, record = compress(
            made("mixtral", torch.float32), tokenizer, tmp_path, "model.partial=true"
        )
    parameters = record.results["parameters"]
    assert parameters["blocks_matrices"] == EXPERTS + ROUTERS + ATTENTION
    assert parameters["blocks_uncovered"] == EXPERTS + ROUTERS
    removed = parameters["targets_dense"] - parameters["targets_activated"]
    share = removed / (EXPERTS + ROUTERS + ATTENTION)
    assert share == pytest.approx(0.033, abs=1e-3)
    assert "rate=0.3 removes 3.3% of the blocks" in caplog.text


def test_a_covered_model_records_nothing_of_it(
    make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    _, record = compress(make_model(), tokenizer, tmp_path)
    assert not [key for key in record.results["parameters"] if "blocks" in key]


@pytest.mark.parametrize(("size", "refused"), [((3, 100), False), ((40, 100), True)])
def test_a_few_percent_are_tolerated(
    size: tuple[int, int],
    refused: bool,
    make_model: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = make_model()
    targets = find_targets(model)
    model.model.layers[1].odd = torch.nn.Parameter(torch.ones(size))
    if refused:
        with pytest.raises(UserError, match=r"odd \(40, 100\)"):
            check_coverage(model, targets, 0.2, partial=False)
    check_coverage(model, targets, 0.2, partial=refused)
    assert "model.layers.1.odd" in caplog.text


def test_the_share() -> None:
    assert Coverage(200, 50).share == 0.25
