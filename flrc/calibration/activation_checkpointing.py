"""Activation checkpointing: backward passes that keep a block's input, not what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.model_shape import INSIDE
from flrc.models.anatomy.placement import waits_on_host
from flrc.models.anatomy.replaced_forwards import replaced
from flrc.plans.target import Target


def graph_bytes(
    model: PreTrainedModel, targets: Sequence[Target], sequences: Sequence[Tensor]
) -> int:
    """Estimated size of the longest sequence's autograd graph, without the head.

    The graph begins at the lowest block that has a target and contains every layer from there to
    the end of the model.
    """
    _, blocks = decoder_blocks(model)
    passed = blocks[min(target.block for target in targets) :].modules()
    widths = sum(layer.out_features for layer in passed if isinstance(layer, nn.Linear))
    longest = max((len(sequence) for sequence in sequences), default=0)
    size: int = next(model.parameters()).element_size()
    return INSIDE * longest * widths * size


def graph_fits(
    model: PreTrainedModel, targets: Sequence[Target], sequences: Sequence[Tensor], memory: float
) -> bool:
    """Whether a sequence's whole graph takes no more than ``memory`` bytes.

    Never for a model that is offloaded to the host: the graph would hold the weights of all blocks.
    """
    return not waits_on_host(model) and graph_bytes(model, targets, sequences) <= memory


@contextmanager
def checkpointed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """While active, each block's activations are recomputed in the backward pass, if ``wanted``.

    The operations and the numbers are the same, so gradients do not change (nothing random happens
    inside a block in evaluation mode); it costs one more forward pass. Layers are called twice, so
    hooks on their inputs see them twice.
    """
    _, blocks = decoder_blocks(model)
    wrapped = [(block, partial(_checkpointed, block.forward)) for block in blocks] if wanted else []
    with replaced(wrapped):
        yield


def _checkpointed(forward: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **options)
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **options)
