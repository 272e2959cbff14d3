"""The layers that are compressed, found by the model's structure, never by its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Target:
    """One linear layer of one decoder block.

    Attributes:
        name: Its full module name in the model.
        d_out: Rows of its weight.
        d_in: Columns of its weight; ``d_out`` and ``d_in`` come from the weight, not from the
            model's config, so grouped-query attention and free head widths need no special case.
        block: Index of its decoder block.
        projection: Last part of its name (``q_proj`` ... ``down_proj``).
        input_group: Name of the first target that reads the very same input tensor: q, k and v
            share one group, gate and up another. Calibration collects once per group.
    """

    name: str
    d_out: int
    d_in: int
    block: int
    projection: str
    input_group: str

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
        UserError: If a block has no linear layer, or a linear layer is not called.
    """
    linears = {target.name: target for target in linear_layers(model)}
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
        for name in linears
    ]
    try:
        with torch.no_grad():
            model(
                input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=False
            )
    finally:
        for handle in handles:
            handle.remove()
    idle = [name for name in linears if name not in leaders]
    if idle:
        raise UserError(
            "some linear layers are not used by a plain forward pass and cannot be calibrated",
            given=", ".join(idle[:5]),
            allowed="dense decoder blocks (no conditional experts)",
        )
    return [replace(linears[name], input_group=leader) for name, leader in leaders.items()]
