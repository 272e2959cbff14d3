"""Which list of modules holds the decoder blocks: the one that text passes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import FAMILIES, MULTIMODAL, made
from torch import nn
from transformers import AutoModelForCausalLM

from flrc.errors import UserError
from flrc.models.anatomy.blocks import decoder_blocks, lists_run
from flrc.models.anatomy.forward_trace import UndecidedError
from flrc.models.anatomy.targets import find_targets

TEXT_BLOCKS = {
    "gemma3": "model.language_model.layers",
    "git": "git.encoder.layer",
    "got_ocr2": "model.language_model.layers",
    "phi4_multimodal": "model.layers",
}


@pytest.mark.parametrize("name", MULTIMODAL)
def test_larger_encoders_of_images_and_sound_are_left_alone(name: str) -> None:
    model = made(name, torch.float32)
    found, blocks = decoder_blocks(model)
    assert found == TEXT_BLOCKS[name]
    sizes = [
        sum(parameter.numel() for parameter in module.parameters())
        for other, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and not other.startswith(found)
    ]
    assert max(sizes) > sum(parameter.numel() for parameter in blocks.parameters())
    assert {t.name.startswith(f"{found}.") for t in find_targets(model)} == {True}
    with torch.device("meta"):
        shell = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").eval()
    assert decoder_blocks(shell)[0] == found


@pytest.mark.parametrize("name", FAMILIES)
def test_one_list_of_blocks_needs_no_forward_pass(name: str) -> None:
    """The model is not run if there is nothing to decide."""
    model = made(name)

    def forward(*_: Any, **__: Any) -> None:
        raise AssertionError("it was run")

    model.forward = forward
    assert len(lists_run(model)) == 1


class Stack(nn.Module):
    """Blocks, and next to them what a test adds."""

    def __init__(self, blocks: int, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.read: Callable[[list[torch.Tensor]], Any] = lambda states: states[-1]

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.embed.weight.device

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        """What is read of the states before, between and after the blocks."""
        states = [self.embed(input_ids)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return self.read(states)


def test_larger_heads_at_every_block_are_not_blocks() -> None:
    """They are also called once each in order, but pass nothing on."""
    model = Stack(3)
    model.heads = nn.ModuleList(nn.Linear(4, 100) for _ in range(3))
    model.read = lambda states: sum(h(x) for h, x in zip(model.heads, states[1:], strict=True))
    assert lists_run(model) == ["blocks", "heads"]


def test_a_larger_list_that_is_not_run_does_not_count() -> None:
    model = Stack(2)
    model.encoder = nn.ModuleList(nn.Linear(50, 50) for _ in range(5))
    assert lists_run(model) == ["blocks"]


def test_without_weights_it_is_undecided_and_with_them_an_error() -> None:
    def fails(states: list[torch.Tensor]) -> torch.Tensor:
        if states[0].sum().item() > -1e9:  # no value on the meta device
            raise KeyError("no such thing")
        return states[-1]

    for device, error in (("meta", UndecidedError), ("cpu", UserError)):
        with torch.device(device):
            model = Stack(2)
            model.encoder = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        model.read = fails
        with pytest.raises(error, match=r"Stack"):
            lists_run(model)


def test_a_model_is_asked_once() -> None:
    model = Stack(2)
    model.encoder = nn.ModuleList([nn.Linear(4, 4)])
    first = lists_run(model)
    model.read = None  # type: ignore[assignment]
    assert lists_run(model) is first
