"""Block influence: how much each decoder block rotates its hidden states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from flrc.calibration.statistics import not_finite
from flrc.core.progress import progress
from flrc.models.anatomy.block_by_block import hidden_of
from flrc.models.anatomy.blocks import decoder_blocks


def cosines(before: Tensor, after: Tensor) -> Tensor:
    """Cosine ``(...)`` between each token's states ``(..., width)``, float64; 0 where one is 0."""
    return nn.functional.cosine_similarity(before.double(), after.double(), dim=-1, eps=1e-30)


@torch.no_grad()
def block_influence(model: PreTrainedModel, sequences: Sequence[Tensor]) -> list[float]:
    """``1 - mean cosine`` in [0, 2] of each block's input and output, over all tokens.

    The model is in evaluation mode; sequences ``(tokens,)`` are processed one by one, unpadded.

    Raises:
        UserError: If hidden states are not finite.
    """
    _, blocks = decoder_blocks(model)
    sums = [0.0] * len(blocks)

    def add(index: int, _block: nn.Module, *call: Any) -> None:
        positional, named, output = call
        after = output[0] if isinstance(output, tuple) else output
        sums[index] += float(cosines(hidden_of(positional, named), after).sum())

    with ExitStack() as stack:
        for index, block in enumerate(blocks):
            handle = block.register_forward_hook(partial(add, index), with_kwargs=True)
            stack.callback(handle.remove)
        for sequence in progress(sequences, "influence of the blocks", unit="sequence"):
            model.base_model(input_ids=sequence[None].to(model.device), use_cache=False)
    for index, total in enumerate(sums):
        if not math.isfinite(total):
            raise not_finite(f"the hidden states around block {index}")
    tokens = sum(len(sequence) for sequence in sequences)
    return [max(0.0, 1 - total / tokens) for total in sums]
