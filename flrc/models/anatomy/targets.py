"""The layers that are compressed, found by the model's structure, never by its name."""

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
    """Every linear layer inside the decoder blocks, in the order of their definition.

    Needs no weights (the model may be on the meta device); each layer is its own input group here.

    Raises:
        UndecidedError: As :func:`~flrc.models.anatomy.blocks.lists_run`.
        UserError: If a block has no linear layer, or layers share a weight.
    """
    prefix, blocks = decoder_blocks(model)
    found: list[Target] = []
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
            found.append(Target(full, d_out, d_in, index, name.rpartition(".")[2], full))
    _check_own_weights(model, found)
    return found


def _is_linear(module: nn.Module) -> bool:
    """Whether a module computes ``x W^T + b`` and nothing else: some routers inherit the class."""
    if not isinstance(module, nn.Linear) or type(module).forward is nn.Linear.forward:
        return isinstance(module, nn.Linear)
    weight = module.weight
    x = torch.linspace(-1, 1, 2 * weight.shape[1]).to(weight).reshape(1, 2, -1)
    with torch.no_grad():
        plain = nn.functional.linear(x, weight, module.bias)
        try:
            own = module(x)
        except Exception:  # of whatever kind: it takes something else
            return False
    if not isinstance(own, Tensor) or own.shape != plain.shape:
        return False
    if own.is_meta:
        return True
    return torch.allclose(own, plain, rtol=1e-2, atol=1e-2, equal_nan=True)


def _check_own_weights(model: nn.Module, layers: Sequence[Target]) -> None:
    """Raise UserError if the weight of one of the layers stands elsewhere in the model too."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    for layer in layers:
        weight = model.get_parameter(f"{layer.name}.weight")
        if len(names[weight]) > 1:
            raise UserError(
                "a weight is used in several places, and low-rank factors would be in one",
                given=", ".join(names[weight][:4]),
                allowed="blocks whose weights are their own",
            )


def find_targets(model: PreTrainedModel) -> list[Target]:
    """The layers to compress, in the order of the forward pass, with their input groups.

    Embeddings, norms and the head lie outside the blocks and are no targets (FLRC appendix F), so
    tied embeddings are left alone; nor are layers whose weight the model reads itself, which
    factors could not give it. One forward pass over two tokens shows both that and which layers
    share an input.

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
    """Of each layer that is called, the first that was handed the same tensors."""
    inputs: dict[str, list[int]] = {}
    for call in calls:
        if len(call.positional) != 1 or call.named:
            raise UserError(
                "a linear layer is called with something else than one tensor",
                given=call.name,
                allowed="layers that are called as layer(x)",
            )
        inputs.setdefault(call.name, []).append(id(call.positional[0]))
    first: dict[tuple[int, ...], str] = {}
    return {name: first.setdefault(tuple(given), name) for name, given in inputs.items()}
