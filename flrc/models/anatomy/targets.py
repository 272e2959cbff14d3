"""The linear layers to compress, found by the model's structure, not by names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from flrc.errors import UserError
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.forward_trace import Call, calls_on_two_tokens, weights_read
from flrc.plans.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def linear_layers(model: nn.Module) -> list[Target]:
    """Every linear layer inside the decoder blocks, in the order of definition.

    Needs no weights (the model may be on the meta device); each layer is its own input group here.

    Raises:
        UndecidedError: As :func:`~flrc.models.anatomy.blocks.lists_run`.
        UserError: If a block has no linear layer, or layers share a weight.
    """
    prefix, blocks = decoder_blocks(model)
    targets: list[Target] = []
    for index, block in enumerate(blocks):
        layers = {name: layer for name, layer in block.named_modules() if _is_linear(layer)}
        if not layers:
            raise UserError(
                f"block {index} of the model has no torch.nn.Linear layer to compress",
                given=type(block).__name__,
                allowed="blocks built of torch.nn.Linear layers",
            )
        for name, layer in layers.items():
            d_out, d_in = layer.weight.shape  # type: ignore[misc]
            full = f"{prefix}.{index}.{name}"
            targets.append(Target(full, d_out, d_in, index, name.rpartition(".")[2], full))
    _check_own_weights(model, targets)
    return targets


def _is_linear(module: nn.Module) -> bool:
    """Whether a module computes just ``x W^T + b``; some routers override ``nn.Linear``."""
    if not isinstance(module, nn.Linear) or type(module).forward is nn.Linear.forward:
        return isinstance(module, nn.Linear)
    weight = module.weight
    x = torch.linspace(-1, 1, 2 * weight.shape[1]).to(weight).reshape(1, 2, -1)
    with torch.no_grad():
        plain = nn.functional.linear(x, weight, module.bias)
        try:
            own = module(x)
        except Exception:  # it takes other arguments
            return False
    if not isinstance(own, Tensor) or own.shape != plain.shape:
        return False
    if own.is_meta:
        return True
    return torch.allclose(own, plain, rtol=1e-2, atol=1e-2, equal_nan=True)


def _check_own_weights(model: nn.Module, layers: Sequence[Target]) -> None:
    """Raise UserError if the weight of one of the layers is used elsewhere in the model."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    for layer in layers:
        weight = model.get_parameter(f"{layer.name}.weight")
        if len(names[weight]) > 1:
            raise UserError(
                "a weight is used in several places, and low-rank factors would replace only one",
                given=", ".join(names[weight][:4]),
                allowed="blocks whose weights are not shared",
            )


def find_targets(model: PreTrainedModel) -> list[Target]:
    """The layers to compress, in the order of the forward pass, with their input groups.

    Embeddings, norms and the head are outside of the blocks and not targets (FLRC appendix F), so
    tied embeddings are unaffected. Layers whose weight the model reads directly are not targets
    either, since factors have no such weight. One forward pass over two tokens shows this, and
    which layers share an input.

    Raises:
        UndecidedError: If the forward pass needs weights, and the model has none.
        UserError: If a block has no linear layer, a linear layer is not called or shares its
            weight, or the model cannot be run on two tokens.
    """
    linears = {target.name: target for target in linear_layers(model)}
    with weights_read({name: model.get_submodule(name) for name in linears}) as read:
        calls = calls_on_two_tokens(model, list(linears))
    used = read.union(call.name for call in calls)
    idle = [name for name in linears if name not in used]
    if idle:
        raise UserError(
            "some linear layers are not used by a plain forward pass and cannot be calibrated",
            given=", ".join(idle[:5]),
            allowed="dense decoder blocks (no conditional experts)",
        )
    leaders = _leaders([call for call in calls if call.name not in read])
    return [replace(linears[name], input_group=leader) for name, leader in leaders.items()]


def _leaders(calls: Sequence[Call]) -> dict[str, str]:
    """For each layer that is called, the first layer with the same inputs."""
    inputs: dict[str, list[int]] = {}
    for call in calls:
        if len(call.positional) != 1 or call.named:
            raise UserError(
                "a linear layer is not called with exactly one tensor",
                given=call.name,
                allowed="layers that are called as layer(x)",
            )
        inputs.setdefault(call.name, []).append(id(call.positional[0]))
    first: dict[tuple[int, ...], str] = {}
    return {name: first.setdefault(tuple(given), name) for name, given in inputs.items()}
