"""MoDeGPT's score against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from flrc.calibration.block_influence import block_influence, cosines
from flrc.calibration.dense_model import DenseModel
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.sensitivity.block_influence import BlockInfluence


def test_cosines_by_hand() -> None:
    before = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    after = torch.tensor([[6.0, 8.0], [0.0, 2.0], [-1.0, -1.0], [1.0, 1.0]])
    assert cosines(before, after).tolist() == pytest.approx([1, 0, -1, 0.5**0.5])


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_against_the_models_own_hidden_states(
    shape: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model(shape)
    count = len(model.model.layers)
    found: list[list[float]] = [[] for _ in range(count)]
    for sequence in sequences:
        with torch.no_grad():
            states = model(input_ids=sequence[None], output_hidden_states=True).hidden_states
        states = [state[0].double().numpy() for state in states]
        for index in range(count - 1):  # the last state given is behind the final norm
            x, y = states[index], states[index + 1]
            cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
            found[index] += cosine.tolist()
    influence = block_influence(model, sequences)
    assert len(influence) == count
    for index in range(count - 1):
        assert len(found[index]) == 40 + 23 + 57
        assert influence[index] == pytest.approx(1 - np.mean(found[index]), rel=1e-5)


def test_every_target_has_its_blocks_score(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    influence = block_influence(model, sequences)
    assert len(set(influence)) == len(influence)
    targets = Shared().targets(find_targets(model))
    scores = BlockInfluence().score(DenseModel(model, targets, sequences), lambda _: {})
    assert scores == {target.name: influence[target.block] for target in targets}
    assert not any(block._forward_hooks for block in model.model.layers)


def test_a_block_that_passes_its_input_on_has_none(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    for layer in ("self_attn.o_proj", "mlp.down_proj"):
        model.model.layers[1].get_submodule(layer).weight.data.zero_()
    influence = block_influence(model, sequences)
    assert influence[1] == pytest.approx(0, abs=1e-12)
    assert influence[0] > 1e-3
