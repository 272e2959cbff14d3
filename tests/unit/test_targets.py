"""Which layers are compressed, in every tiny shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import TINY_SHAPES
from torch import nn

from flrc.errors import UserError
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.targets import find_targets, linear_layers

# Width of queries (also the input of o) and of keys and values, by hand from heads x head width.
WIDTHS = {
    "tiny_llama": (48, 48),  # 4 x 12, 4 x 12
    "tiny_llama_gqa": (48, 24),  # 4 x 12, 2 x 12
    "tiny_mistral": (48, 24),
    "tiny_qwen2": (48, 24),
    "tiny_qwen3": (64, 32),  # 4 x 16, 2 x 16: not the hidden size
    "tiny_gemma": (64, 16),  # 4 x 16, 1 x 16
    "tiny_gemma3": (64, 32),
}


def test_every_tiny_shape_is_expected_here() -> None:
    assert set(WIDTHS) == set(TINY_SHAPES)


@pytest.mark.parametrize("shape", TINY_SHAPES)
def test_names_shapes_and_groups(shape: str, make_model: Callable[..., Any]) -> None:
    queries, keys = WIDTHS[shape]
    expected = {}
    for block in range(3):
        attention, mlp = f"model.layers.{block}.self_attn", f"model.layers.{block}.mlp"
        q, gate = f"{attention}.q_proj", f"{mlp}.gate_proj"
        expected |= {
            q: (queries, 48, block, "q_proj", q),
            f"{attention}.k_proj": (keys, 48, block, "k_proj", q),
            f"{attention}.v_proj": (keys, 48, block, "v_proj", q),
            f"{attention}.o_proj": (48, queries, block, "o_proj", f"{attention}.o_proj"),
            gate: (96, 48, block, "gate_proj", gate),
            f"{mlp}.up_proj": (96, 48, block, "up_proj", gate),
            f"{mlp}.down_proj": (48, 96, block, "down_proj", f"{mlp}.down_proj"),
        }
    model = make_model(shape)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    found = find_targets(model)
    assert {
        t.name: (t.d_out, t.d_in, t.block, t.projection, t.input_group) for t in found
    } == expected
    assert [t.block for t in found] == sorted(t.block for t in found)
    assert all(t.dense == t.d_out * t.d_in for t in found)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    assert not any(model.get_submodule(t.name)._forward_pre_hooks for t in found)


@pytest.mark.parametrize("shape", TINY_SHAPES)
def test_the_same_layers_without_weights(shape: str, make_model: Callable[..., Any]) -> None:
    from flrc.models.sources.loading import model_shell
    from flrc.models.sources.random import Random

    shell = model_shell(Random(shape=shape))
    assert all(parameter.is_meta for parameter in shell.parameters())
    found = find_targets(make_model(shape))
    assert {(t.name, t.d_out, t.d_in) for t in linear_layers(shell)} == {
        (t.name, t.d_out, t.d_in) for t in found
    }


def test_the_head_is_not_a_target_tied_or_untied(make_model: Callable[..., Any]) -> None:
    for shape in ("tiny_llama", "tiny_llama_gqa"):
        model = make_model(shape)
        assert isinstance(model.lm_head, nn.Linear)
        tied = model.lm_head.weight is model.model.embed_tokens.weight
        assert tied == (shape == "tiny_llama_gqa")
        assert not any("lm_head" in t.name for t in find_targets(model))


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="no list of decoder blocks"):
        decoder_blocks(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(UserError, match="no list of decoder blocks"):
        decoder_blocks(nn.ModuleDict({"a": nn.ModuleList()}))


def test_blocks_without_linear_layers_are_refused() -> None:
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Sequential(nn.Linear(3, 3)), nn.Conv1d(3, 3, 1)])
    with pytest.raises(UserError, match=r"block 1 .* no torch.nn.Linear"):
        linear_layers(model)


def test_the_outermost_list_is_taken() -> None:
    model, block = nn.Module(), nn.Module()
    block.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    block.gate = nn.Linear(4, 2)
    model.layers = nn.ModuleList([block])
    name, blocks = decoder_blocks(model)
    assert name == "layers"
    assert blocks is model.layers


def test_a_layer_that_is_never_called_is_refused(make_model: Callable[..., Any]) -> None:
    model = make_model()
    model.model.layers[1].idle = nn.Linear(4, 4)
    with pytest.raises(UserError, match="not used by a plain forward pass") as caught:
        find_targets(model)
    assert caught.value.given == "model.layers.1.idle"
    assert not any(m._forward_pre_hooks for m in model.modules())


class Router(nn.Linear):
    """As in Llama 4: inherits from a linear layer and computes something else."""

    def forward(self, x: torch.Tensor) -> Any:
        """Scores and their order."""
        return super().forward(x).sort()


class Named(nn.Linear):
    """As in Falcon: its own forward that computes the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product."""
        return x @ self.weight.T + self.bias


class Doubled(nn.Linear):
    """Of the right shape, with another value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the product."""
        return 2 * super().forward(x)


def test_what_only_inherits_from_a_linear_layer_is_not_a_target() -> None:
    model = nn.Module()
    block = nn.ModuleDict({"r": Router(4, 4), "n": Named(4, 4), "d": Doubled(4, 4)})
    model.layers = nn.ModuleList([block])
    assert [target.name for target in linear_layers(model)] == ["layers.0.n"]


def test_a_weight_in_two_places_is_refused(make_model: Callable[..., Any]) -> None:
    model = make_model()
    first, second = (model.model.layers[index].mlp for index in (0, 2))
    second.up_proj.weight = first.up_proj.weight
    with pytest.raises(UserError, match="several places") as caught:
        find_targets(model)
    names = ["model.layers.0.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"]
    assert caught.value.given == ", ".join(names)


def test_a_block_in_two_places_is_refused(make_model: Callable[..., Any]) -> None:
    """As ALBERT's."""
    model = make_model()
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(UserError, match="several places"):
        find_targets(model)


def test_a_weight_that_the_model_reads_itself_is_not_a_target(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Mamba's step size, and routers that only look at the dtype."""
    model = make_model()
    mlp = model.model.layers[1].mlp
    everything = {target.name for target in find_targets(model)}
    kind = type(mlp.down_proj)

    def forward(x: torch.Tensor) -> torch.Tensor:
        hidden = mlp.act_fn(mlp.gate_proj(x.to(mlp.gate_proj.weight.dtype))) * mlp.up_proj(x)
        return nn.functional.linear(hidden, mlp.down_proj.weight)

    monkeypatch.setattr(mlp, "forward", forward)
    found = find_targets(model)
    left = {f"model.layers.1.mlp.{name}" for name in ("gate_proj", "down_proj")}
    assert {target.name for target in found} == everything - left
    assert {target.input_group for target in found} <= everything - left
    assert type(mlp.down_proj) is kind


def test_layers_share_an_input_only_in_all_their_calls(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    mlp = model.model.layers[0].mlp

    def forward(x: torch.Tensor) -> torch.Tensor:
        hidden = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
        return mlp.down_proj(hidden + mlp.gate_proj(2 * x))

    monkeypatch.setattr(mlp, "forward", forward)
    groups = {t.projection: t.input_group for t in find_targets(model) if t.block == 0}
    assert groups["up_proj"] == "model.layers.0.mlp.up_proj"
    assert groups["gate_proj"] == "model.layers.0.mlp.gate_proj"
