"""Statistics of weight gradients, reduced weight by weight while the backward pass runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from torch import Tensor
from transformers import PreTrainedModel

from flrc.calibration.activation_checkpointing import checkpointed, graph_fits
from flrc.calibration.sequence_loss import requiring_grad, sequence_loss
from flrc.calibration.statistics import GradientStatistics, gradient_sums
from flrc.core.progress import progress
from flrc.plans.target import Target

AGGREGATION_PASSES = 4
"""Groups of blocks, one held at a time, when gradients are summed over sequences."""


def per_sequence(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    memory: float = math.inf,
) -> dict[str, GradientStatistics]:
    """Squared gradients of each sequence, summed over sequences.

    A gradient is reduced to two numbers and freed as soon as it is complete, so only one weight's
    gradient exists at a time. Where the autograd graph would exceed ``memory`` bytes, activations
    are recomputed.

    Source: FLRC (arXiv 2510.09332), eq. 1 and 5, as the empirical Fisher information over
        sequences.
    """
    sums = {target.name: GradientStatistics(0.0, 0.0) for target in targets}
    tokens = 0

    def reducer(name: str) -> Callable[[Tensor], None]:
        def hook(weight: Tensor) -> None:
            assert weight.grad is not None
            sums[name] += gradient_sums(weight.grad, weight, tokens)
            weight.grad = None

        return hook

    with ExitStack() as stack:
        for name, weight in stack.enter_context(requiring_grad(model, targets)).items():
            handle = weight.register_post_accumulate_grad_hook(reducer(name))  # type: ignore[no-untyped-call]
            stack.callback(handle.remove)
        fits = graph_fits(model, targets, sequences, memory)
        stack.enter_context(checkpointed(model, not fits))
        for sequence in progress(sequences, "gradients", unit="sequence"):
            tokens = len(sequence) - 1
            sequence_loss(model, sequence).backward()  # type: ignore[no-untyped-call]
    return sums


def aggregated(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    memory: float = math.inf,
) -> dict[str, GradientStatistics]:
    """Squares of the gradient summed over all sequences, divided by all predicted tokens.

    Summed gradients must be held until the last sequence, so a quarter of the blocks is processed
    at a time, in four passes: no more than a quarter of the model's size is held. Recomputes
    activations as :func:`per_sequence` does.

    Source: FLRC (arXiv 2510.09332), algorithm 1 to the letter.
    """
    tokens = sum(len(sequence) - 1 for sequence in sequences)
    blocks = sorted({target.block for target in targets})
    size = -(-len(blocks) // AGGREGATION_PASSES)
    sums = {target.name: GradientStatistics(0.0, 0.0) for target in targets}
    for begin in range(0, len(blocks), size):
        group = [t for t in targets if t.block in blocks[begin : begin + size]]
        doing = f"aggregated gradients, blocks {begin} to {begin + size - 1}"
        with requiring_grad(model, group) as weights:
            with checkpointed(model, not graph_fits(model, group, sequences, memory)):
                for sequence in progress(sequences, doing, unit="sequence"):
                    sequence_loss(model, sequence).backward()  # type: ignore[no-untyped-call]
            for name, weight in weights.items():
                if weight.grad is not None:  # else no token reached it
                    sums[name] = gradient_sums(weight.grad, weight, tokens)
                weight.grad = None
    return sums
