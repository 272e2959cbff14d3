"""The layers that are compressed, found by the model's structure, never by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Target:
    """What is decomposed and given a rank as one: a linear layer, or layers that share an input.

    Layers that share their input (``grouping=shared``) are one target whose weight is theirs
    stacked along the outputs; they then share the right factor.

    Attributes:
        name: Full module name in the model; of a group the names of its layers, joined.
        d_out: Rows of its (stacked) weight.
        d_in: Columns of its weight; ``d_out`` and ``d_in`` come from the weight, not from the
            model's config, so grouped-query attention and free head widths need no special case.
        block: Index of its decoder block.
        projection: Last part of its name (``q_proj`` ... ``down_proj``).
        input_group: Name of the first target that reads the very same input tensor: q, k and v
            share one group, gate and up another. Calibration collects once per group.
        members: The layers of a group, in the order in which their weights are stacked; empty for
            a single layer.
    """

    name: str
    d_out: int
    d_in: int
    block: int
    projection: str
    input_group: str
    members: tuple[Target, ...] = ()

    @classmethod
    def stacked(cls, members: Sequence[Target]) -> Target:
        """One target of several layers that share an input; a single layer stays what it is.

        Raises:
            ValueError: If the layers do not read the same input.
        """
        first = members[0]
        if len(members) == 1:
            return first
        if len({(t.input_group, t.d_in) for t in members}) > 1:
            raise ValueError(f"{', '.join(t.name for t in members)} do not share an input")
        parent = first.name.rpartition(".")[0]
        joined = "+".join(t.projection for t in members)
        name = f"{parent}.{joined}" if parent else joined
        d_out = sum(t.d_out for t in members)
        return cls(name, d_out, first.d_in, first.block, joined, first.input_group, tuple(members))

    @property
    def layers(self) -> tuple[Target, ...]:
        """The linear layers themselves: the members of a group, or this one."""
        return self.members or (self,)

    def weight(self, model: nn.Module) -> Float[Tensor, "m n"]:
        """``(d_out, d_in)``: the dense weight, stacked for a group (a copy there)."""
        weights = [model.get_submodule(layer.name).weight for layer in self.layers]
        found = [weight.data for weight in weights if isinstance(weight, Tensor)]
        return found[0] if len(found) == 1 else torch.cat(found)

    @property
    def dense(self) -> int:
        """Parameters of the dense weight (the bias is not compressed and not counted)."""
        return self.d_out * self.d_in


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the model's decoder blocks: the module list that holds the most parameters.

    Raises:
        UserError: If the model has no list of blocks.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0
    }
    if not lists:
        raise UserError(
            "the model has no list of decoder blocks to compress",
            given=type(model).__name__,
            allowed="a decoder-only model with blocks of torch.nn.Linear, such as Llama or Qwen2",
        )

    def size(name: str) -> int:
        return sum(parameter.numel() for parameter in lists[name].parameters())

    # Lists nest (experts in a block); the outermost holds the most.
    name = max(lists, key=size)
    return name, lists[name]


def linear_layers(model: nn.Module) -> list[Target]:
    """Every ``nn.Linear`` inside the decoder blocks, in the order of their definition.

    Needs no weights (the model may be on the meta device); each layer is its own input group here.

    Raises:
        UserError: If a block has no linear layer.
    """
    prefix, blocks = decoder_blocks(model)
    found: list[Target] = []
    for index, block in enumerate(blocks):
        names = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        if not names:
            raise UserError(
                f"block {index} of the model has no torch.nn.Linear layer to compress",
                given=type(block).__name__,
                allowed="blocks built of torch.nn.Linear layers",
            )
        for name in names:
            d_out, d_in = block.get_submodule(name).weight.shape  # type: ignore[union-attr, misc]
            full = f"{prefix}.{index}.{name}"
            found.append(Target(full, d_out, d_in, index, name.rpartition(".")[2], full))
    return found


def find_targets(model: PreTrainedModel) -> list[Target]:
    """The layers to compress, in the order of the forward pass, with their input groups.

    Embeddings, norms and the head lie outside the blocks and are no targets (FLRC appendix F), so
    tied embeddings are left alone. One forward pass over two tokens shows which layers share an
    input.

    Raises:
        UserError: If a block has no linear layer, a linear layer is not called, or the model cannot
            be run on two tokens.
    """
    linears = {target.name: target for target in linear_layers(model)}
    leaders = _leaders(model, list(linears))
    idle = [name for name in linears if name not in leaders]
    if idle:
        raise UserError(
            "some linear layers are not used by a plain forward pass and cannot be calibrated",
            given=", ".join(idle[:5]),
            allowed="dense decoder blocks (no conditional experts)",
        )
    return [replace(linears[name], input_group=leader) for name, leader in leaders.items()]


def _leaders(model: PreTrainedModel, names: list[str]) -> dict[str, str]:
    """Of each layer that a forward pass calls, the first that was handed the same tensor."""
    error: Exception | None = None
    # A mask for every pair of tokens is taken as it is; where a model makes its own of it, one for
    # every token.
    for shape in ((1, 1, 2, 2), (1, 2)):
        mask = torch.ones(shape, dtype=torch.bool, device=model.device)
        try:
            return _called(model, names, mask if mask.ndim == 4 else mask.long())
        except Exception as e:  # of whatever kind: the architecture is not known
            error = e
    raise UserError(
        "the model cannot be run on two tokens, which shows which layers share an input",
        given=f"{type(model).__name__}: {type(error).__name__}: {error}",
        allowed="a decoder-only model, such as Llama, Qwen2, Mistral, Gemma, GPT-NeoX or OPT",
    ) from error


def _called(model: PreTrainedModel, names: list[str], mask: torch.Tensor) -> dict[str, str]:
    leaders: dict[str, str] = {}
    inputs: list[
        tuple[torch.Tensor, str]
    ] = []  # keeps the tensors alive: their identity is the key

    def remember(name: str) -> object:
        def hook(_module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            (x,) = arguments
            leader = next((first for seen, first in inputs if seen is x), name)
            leaders[name] = leader
            if leader == name:
                inputs.append((x, name))

        return hook

    handles = [
        model.get_submodule(name).register_forward_pre_hook(remember(name))  # type: ignore[arg-type]
        for name in names
    ]
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return leaders
