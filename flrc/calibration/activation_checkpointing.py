"""Backward passes that keep a block's input instead of everything inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.placement import waits_on_host
from flrc.models.anatomy.replaced_forwards import replaced
from flrc.plans.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INSIDE = 3
"""Numbers that a block's graph holds for each number that its layers hand on: norms, the activation
function and attention keep their own."""


def graph_bytes(
    model: PreTrainedModel, targets: Sequence[Target], sequences: Sequence[Tensor]
) -> int:
    """About what the graph of the longest sequence's forward pass holds, the head left out.

    It begins at the lowest block that has any of ``targets`` and goes through every layer from
    there to the end of the model, whether it is a target or not.
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
    """Whether a sequence's graph is held whole: it takes no more than ``memory`` bytes.

    Never that of a model whose blocks visit the device: it would hold all of their weights.
    """
    return not waits_on_host(model) and graph_bytes(model, targets, sequences) <= memory


@contextmanager
def checkpointed(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """While active, a block's inside is computed again when its gradients are.

    The same operations on the same numbers, so gradients do not change; the price is one more
    forward pass. Layers are called twice: what watches their inputs would see them twice.

    Args:
        model: In evaluation mode (nothing is drawn inside a block).
        wanted: Whether to; otherwise nothing happens.
    """
    with ExitStack() as stack:
        if wanted:
            _, blocks = decoder_blocks(model)
            stack.enter_context(
                replaced((block, partial(_checkpointed, block.forward)) for block in blocks)
            )
        yield


def _checkpointed(forward: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **options)
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **options)
