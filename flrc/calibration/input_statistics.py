"""Input statistics of a model, block by block: the hooks; the maths is in ``statistics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from flrc.calibration.statistics import InputAccumulator, InputStatistics, not_finite
from flrc.models.anatomy.block_by_block import block_calls
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.plans.target import Target


@contextmanager
def input_hooks(
    model: nn.Module, receivers: Mapping[str, Callable[[Tensor], None]]
) -> Iterator[None]:
    """While active, each named layer's input is handed to its receiver before the layer runs."""
    with ExitStack() as stack:
        for name, receive in receivers.items():
            handle = model.get_submodule(name).register_forward_pre_hook(
                lambda _module, arguments, receive=receive: receive(arguments[0])
            )
            stack.callback(handle.remove)
        yield


@torch.no_grad()
def input_statistics(
    model: PreTrainedModel, targets: Sequence[Target], sequences: Sequence[Tensor]
) -> Iterator[tuple[int, dict[str, InputStatistics]]]:
    """Statistics of the inputs of all targets, one block at a time.

    The sequences' hidden states are carried from block to block, so only one block's statistics
    are held at a time: ``sum of d_in^2`` float64 numbers over its input groups, plus
    ``tokens * width`` for the hidden states.

    The model is in evaluation mode; sequences ``(tokens,)`` are processed one by one, unpadded.

    Raises:
        UserError: If a block's output is not finite, so that nothing is known of the blocks above.

    Yields:
        Block index and the statistics by input group. The caller shows the progress.
    """
    _, blocks = decoder_blocks(model)
    calls = [block_calls(model, sequence[None]) for sequence in sequences]
    for index, block in enumerate(blocks):
        groups = {t.input_group: t.d_in for t in targets if t.block == index}
        accumulators = {name: InputAccumulator(d_in, model.device) for name, d_in in groups.items()}
        with input_hooks(model, {name: group.add for name, group in accumulators.items()}):
            for call in calls:
                call.advance(index, block)
        if not all(bool(torch.isfinite(call.hidden).all()) for call in calls):
            raise not_finite(f"the hidden states behind block {index}")
        yield index, {name: accumulators.pop(name).result() for name in groups}
