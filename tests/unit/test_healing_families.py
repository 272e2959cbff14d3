"""The parts of a model that healing takes it apart into, on every family."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, PARTIAL, RECURRENT, STATEFUL, made

from flrc.errors import UserError
from flrc.healing.distilled import Distilled
from flrc.healing.teacher import dense_states, head_of
from flrc.healing.trained import Trained
from flrc.models.anatomy.blocks import decoder_blocks

IDS = torch.arange(3, 20)


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
