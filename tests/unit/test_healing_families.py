"""The parts of a model that healing takes it apart into, on every family."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, PARTIAL, RECURRENT, STATEFUL, made

from flrc.errors import UserError
from flrc.healing.distilled import Distilled
from flrc.healing.generated import generated
from flrc.healing.prompts import Prompt
from flrc.healing.teacher import dense_states, head_of
from flrc.healing.trained import Trained
from flrc.models.anatomy.blocks import decoder_blocks

IDS = torch.arange(3, 20)
NOT_STEP_BY_STEP = {"minimax", "rwkv", "xlstm", "bamba", "mamba2"}
"""Families that have no cache of keys and values."""


@pytest.mark.parametrize(
    "name", [n for n in (*FAMILIES, *PARTIAL, *RECURRENT, *STATEFUL) if n != "llama4_text"]
)
def test_the_head_makes_the_logits(name: str) -> None:
    """Of the last hidden states of the base model, with all that a family does behind the head."""
    model = made(name, torch.float32)
    (states,) = dense_states(model, [IDS])
    with torch.no_grad():
        whole = model(input_ids=IDS[None], use_cache=False).logits[0]
        torch.testing.assert_close(head_of(model)(states), whole, rtol=1e-4, atol=1e-4)


def test_a_model_without_a_base_model() -> None:
    """transformers does not say what is below the head of Llama 4's text model."""
    model = made("llama4_text", torch.float32)
    with pytest.raises(UserError, match="cannot be healed"):
        dense_states(model, [IDS])


@pytest.mark.parametrize("name", ["opt projected", "llama", "gpt_neo"])
def test_dense_layers_outside_the_blocks_stay(name: str) -> None:
    """Embeddings of positions, and projections from and to the embeddings."""
    model = made(name, torch.float32)
    chosen = Trained.of(model, model, Distilled(dense=True)).parameters
    assert chosen
    inside = {id(p) for block in decoder_blocks(model)[1] for p in block.parameters()}
    assert [name for name, p in chosen.items() if id(p) not in inside] == []


@pytest.mark.parametrize(
    "name", [n for n in (*FAMILIES, *PARTIAL, *RECURRENT, *STATEFUL) if n != "llama4_text"]
)
def test_generated_sequences_come_with_their_states(name: str) -> None:
    """Those of decoding steps are those of a whole pass; a model without such steps is refused."""
    model = made(name, torch.float32)
    begun = [Prompt(IDS[:3], 7), Prompt(IDS[5:6], 9)]
    if name in NOT_STEP_BY_STEP:
        with pytest.raises(UserError, match="does not decode step by step"):
            Distilled().check_model(model, [IDS])
        Distilled(generated=0).check_model(model, [IDS])
        return
    Distilled().check_model(model, [IDS])
    found = generated(model, begun, seed=0)
    assert [len(one.ids) for one in found] == [7, 9]
    for one, states in zip(found, dense_states(model, [one.ids for one in found]), strict=True):
        torch.testing.assert_close(one.states, states, rtol=1e-3, atol=1e-3)
