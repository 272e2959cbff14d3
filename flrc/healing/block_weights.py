"""How errors at the blocks' outputs are weighted: the Gram matrices of the loss gradients there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from flrc.calibration.activation_checkpointing import checkpointed
from flrc.calibration.sequence_loss import sequence_loss
from flrc.core.progress import progress
from flrc.models.anatomy.block_by_block import HIDDEN, hidden_of
from flrc.models.anatomy.blocks import decoder_blocks


def output_grams(
    model: PreTrainedModel, sequences: Sequence[Tensor], recomputed: bool
) -> list[Float[Tensor, "width width"]]:
    """``mean g g^T`` over tokens, for the gradient ``g`` of the loss at each block's output.

    The loss is the summed cross entropy of a sequence's next tokens, under the dense model. To
    second order, an error ``e`` at a block's output changes the loss by ``e^T (mean g g^T) e / 2``
    on average, if the Fisher matrix stands for the Hessian, as in K-FAC.

    Args:
        model: Dense, in evaluation mode.
        sequences: Token ids ``(tokens,)``.
        recomputed: Whether activations are recomputed in the backward pass.

    Returns:
        By block, float32, in host memory.
    """
    _, blocks = decoder_blocks(model)
    model.requires_grad_(False)
    grams: list[Tensor | None] = [None] * len(blocks)
    tokens = sum(len(sequence) for sequence in sequences)

    def add(index: int, gradient: Tensor) -> None:
        rows = gradient.reshape(-1, gradient.shape[-1]).float()
        gram = rows.T @ rows
        known = grams[index]
        grams[index] = gram if known is None else known.add_(gram)

    def watch(index: int, _module: nn.Module, _arguments: object, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:
            states.register_hook(partial(add, index))

    def begin(_module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        leaf = hidden_of(positional, named).detach().requires_grad_(True)
        return ((leaf, *positional[1:]), named) if positional else ((), named | {HIDDEN: leaf})

    with ExitStack() as stack:
        stack.enter_context(checkpointed(model, recomputed))
        stack.callback(blocks[0].register_forward_pre_hook(begin, with_kwargs=True).remove)
        for index, block in enumerate(blocks):
            handle = block.register_forward_hook(partial(watch, index))
            stack.callback(handle.remove)
        for sequence in progress(sequences, "gradients at the blocks", unit="sequence"):
            with torch.enable_grad():
                loss = sequence_loss(model, sequence)
            loss.backward()  # type: ignore[no-untyped-call]
    found = [gram for gram in grams if gram is not None]
    assert len(found) == len(blocks), "a block's output has no gradient"
    return [(gram / tokens).cpu() for gram in found]


def error_weights(
    gram: Float[Tensor, "width width"], isotropic: float
) -> Float[Tensor, "width width"]:
    """``M``: the Gram matrix at a mean diagonal of 1, mixed with the identity."""
    mean = gram.diagonal().mean()
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    if not bool(mean > 0):
        return one
    return (1 - isotropic) * gram / mean + isotropic * one
