"""Gradient statistics, reduced parameter by parameter while the backward pass runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from flrc.calibration.activation_checkpointing import checkpointed, graph_fits
from flrc.calibration.statistics import GradientStatistics, gradient_sums, not_finite
from flrc.core.progress import progress
from flrc.plans.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AGGREGATION_PASSES = 4
"""Groups of blocks whose gradients are held at a time when gradients are summed over sequences."""


def sequence_loss(model: PreTrainedModel, sequence: Tensor) -> Tensor:
    """Summed cross entropy of a sequence's next-token predictions, in nats (at least float32)."""
    ids = sequence.to(model.device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return nn.functional.cross_entropy(logits, ids[1:], reduction="sum")


def _backward(model: PreTrainedModel, sequence: Tensor) -> None:
    loss = sequence_loss(model, sequence)
    if not bool(torch.isfinite(loss)):
        raise not_finite("the model's logits on the calibration sequences")
    loss.backward()  # type: ignore[no-untyped-call]


def per_sequence(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    memory: float = math.inf,
) -> dict[str, GradientStatistics]:
    """Squared gradients of each sequence, summed over sequences.

    A gradient is reduced to two numbers and dropped as soon as it is complete; at no time does more
    than one weight's gradient exist. A graph of more than ``memory`` bytes is not held: blocks are
    computed again.

    Source: FLRC (arXiv 2510.09332), eq. 1 and 5, as the empirical Fisher information over
        sequences.
    """
    sums = {target.name: GradientStatistics(0.0, 0.0) for target in targets}
    tokens = 0

    def reduce(name: str) -> object:
        def hook(weight: Tensor) -> None:
            assert weight.grad is not None
            new, old = gradient_sums(weight.grad, weight, tokens), sums[name]
            sums[name] = GradientStatistics(
                old.importance + new.importance, old.gradient + new.gradient
            )
            weight.grad = None

        return hook

    weights = _only_these_require_gradients(model, targets)
    handles = [
        weight.register_post_accumulate_grad_hook(reduce(name))  # type: ignore[no-untyped-call]
        for name, weight in weights.items()
    ]
    large = not graph_fits(model, targets, sequences, memory)
    try:
        with checkpointed(model, large):
            for sequence in progress(sequences, "gradients, sequence by sequence", len(sequences)):
                tokens = len(sequence) - 1
                _backward(model, sequence)
    finally:
        for handle in handles:
            handle.remove()
        model.requires_grad_(False)
    return sums


def aggregated(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    memory: float = math.inf,
) -> dict[str, GradientStatistics]:
    """Squares of the gradient summed over all sequences, divided by all predicted tokens.

    Summed gradients must be held until the last sequence. A quarter of the blocks is taken at a
    time, in as many passes, so that never more than a quarter of the model's size is held. Graphs
    as in :func:`per_sequence`.

    Source: FLRC (arXiv 2510.09332), algorithm 1 to the letter.
    """
    tokens = sum(len(sequence) - 1 for sequence in sequences)
    blocks = sorted({target.block for target in targets})
    size = -(-len(blocks) // AGGREGATION_PASSES)
    sums: dict[str, GradientStatistics] = {}
    try:
        for begin in range(0, len(blocks), size):
            group = [t for t in targets if t.block in blocks[begin : begin + size]]
            weights = _only_these_require_gradients(model, group)
            doing = f"aggregated gradients, blocks {begin} to {begin + size - 1}"
            with checkpointed(model, not graph_fits(model, group, sequences, memory)):
                for sequence in progress(sequences, doing, len(sequences)):
                    _backward(model, sequence)
            for name, weight in weights.items():
                if weight.grad is None:  # no token reached it
                    sums[name] = GradientStatistics(0.0, 0.0)
                    continue
                sums[name] = gradient_sums(weight.grad, weight, tokens)
                weight.grad = None
    finally:
        for parameter in model.parameters():
            parameter.grad = None
        model.requires_grad_(False)
    return sums


def _only_these_require_gradients(
    model: PreTrainedModel, targets: Sequence[Target]
) -> dict[str, nn.Parameter]:
    model.requires_grad_(False)
    weights: dict[str, nn.Parameter] = {}
    for target in targets:
        weight = model.get_submodule(target.name).weight
        assert isinstance(weight, nn.Parameter)
        weight.requires_grad_(True)
        weights[target.name] = weight
    return weights
