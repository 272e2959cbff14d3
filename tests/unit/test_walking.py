"""Blocks run one by one against the model's own forward pass, for common model families."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, SINGLE, made
from transformers import AutoModelForCausalLM

from flrc.allocator.partial_run import PartialRun
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.calibration.output_statistics import output_statistics
from flrc.errors import UserError
from flrc.models.anatomy.block_by_block import block_calls, check_walk
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.targets import find_targets


def sequences() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(3, 250, (n,), generator=draw) for n in (24, 17)]  # beyond the windows


@pytest.mark.parametrize("name", FAMILIES)
def test_statistics_are_those_of_the_whole_model(name: str) -> None:
    """Gram matrices from plain hooks and numpy, over the model's own forward."""
    model = made(name)
    targets = find_targets(model)
    seen: dict[str, list[np.ndarray]] = {target.name: [] for target in targets}
    for layer, found in seen.items():
        model.get_submodule(layer).register_forward_pre_hook(
            lambda _m, given, found=found: found.append(
                given[0].reshape(-1, given[0].shape[-1]).numpy().copy()
            )
        )
    with torch.no_grad():
        for sequence in sequences():
            model(input_ids=sequence[None], use_cache=False)
    plain = {layer: np.concatenate(found) for layer, found in seen.items()}
    leaders = {target.input_group for target in targets}
    found_grams = {}
    for _, statistics in input_statistics(model, targets, sequences()):
        found_grams |= {group: known.gram.numpy() for group, known in statistics.items()}
    assert found_grams.keys() == leaders
    for group, gram in found_grams.items():
        x = plain[group]
        x = x.astype(np.float64)
        close = 1e-5 if name in SINGLE else 1e-12
        np.testing.assert_allclose(gram, x.T @ x / len(x), rtol=1e-9, atol=close * abs(gram).max())
    for target in targets:  # one leader represents all that read the same
        np.testing.assert_array_equal(plain[target.name], plain[target.input_group])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_check_passes_and_the_head_follows_the_blocks(name: str) -> None:
    model = made(name)
    check_walk(model, sequences()[0][:16])
    run = PartialRun(model, sequences()[:1], 4096)
    divergence, (batch,) = run.dense
    with torch.no_grad():
        logits = model(input_ids=sequences()[0][None], use_cache=False).logits
    expected = torch.log_softmax(logits[:, :-1].double(), -1)
    torch.testing.assert_close(
        run.dense_log_probabilities(batch).double(), expected, rtol=0, atol=1e-5
    )
    nll = -expected.gather(-1, sequences()[0][None, 1:, None]).mean()
    assert divergence.nll == pytest.approx(float(nll), rel=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_shell_has_the_same_targets(name: str) -> None:
    """Without weights, as before any work."""
    model = made(name)
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").eval()
    assert find_targets(shell) == find_targets(model)


@pytest.mark.parametrize("name", ["llama", "gptj", "codegen", "mpt", "gpt_neo", "xglm"])
def test_gradients_begin_at_any_block(name: str) -> None:
    """Whether hidden states come by position or by name."""
    model = made(name)
    targets = find_targets(model)
    one, several = (
        {
            name: known.gram
            for _, part in output_statistics(
                model, targets, sequences(), OutputGradientSettings(), limit
            )
            for name, known in part.items()
        }
        for limit in (1e9, 1.0)  # a pass for all blocks, or one for each
    )
    assert one.keys() == several.keys() == {target.name for target in targets}
    for layer, gram in one.items():
        scale = float(gram.abs().max())
        assert scale > 0
        close = 1e-4 if name in SINGLE else 1e-10
        torch.testing.assert_close(several[layer], gram, rtol=0, atol=close * scale)


def test_sequences_that_do_not_share_arguments_are_refused() -> None:
    """BLOOM's position biases are made for a number of sequences."""
    check_walk(made("llama"), sequences()[0], copies=2)
    with pytest.raises(UserError, match=r"(?s)one by one.*BloomForCausalLM: block 0"):
        check_walk(made("bloom"), sequences()[0], copies=2)


def test_a_walk_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with state: its arguments do not determine what it computes."""
    model = made("llama")
    block = decoder_blocks(model)[1][1]
    plain, calls = block.forward, [0]

    def remembering(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return plain(*arguments, **options) * (2 if calls[0] == 1 else 1)

    monkeypatch.setattr(block, "forward", remembering)
    with pytest.raises(UserError, match="the input of block 2 is off"):
        check_walk(model, sequences()[0])


def test_blocks_that_are_no_chain_are_refused() -> None:
    model = made("llama")
    blocks = decoder_blocks(model)[1]
    model.model.layers = torch.nn.ModuleList([*blocks, torch.nn.Linear(48, 4800)])
    model.model.config.num_hidden_layers = 3  # the last is never called
    with pytest.raises(UserError, match="does not pass hidden states from block to block"):
        block_calls(model, sequences()[0][None])
