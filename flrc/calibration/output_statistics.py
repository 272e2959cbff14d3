"""Gram matrices of the loss gradients at the targets' outputs: the hooks and backward passes.

Where all Gram matrices fit into memory, those of the inputs are taken in the same pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from flrc.calibration.activation_checkpointing import checkpointed, graph_fits
from flrc.calibration.input_statistics import input_hooks
from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.calibration.sequence_loss import LOGITS, next_token_logits
from flrc.calibration.statistics import (
    BlockStatistics,
    InputAccumulator,
    OutputAccumulator,
    OutputStatistics,
    logit_gradients,
    not_finite,
)
from flrc.core.progress import progress
from flrc.models.anatomy.block_by_block import HIDDEN, hidden_of
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.plans.target import Target


def block_groups(targets: Sequence[Target], limit: float) -> list[list[int]]:
    """Groups of consecutive blocks whose output Grams (float32) fit into ``limit`` bytes.

    A block that exceeds the limit by itself is a group of its own.
    """
    sizes: Counter[int] = Counter()
    for target in targets:
        sizes[target.block] += 4 * target.d_out**2
    groups: list[list[int]] = []
    held = 0.0
    for block in sorted(sizes):
        if not groups or held + sizes[block] > limit:
            groups.append([])
            held = 0.0
        groups[-1].append(block)
        held += sizes[block]
    return groups


def sequences_read(
    targets: Sequence[Target], sequences: Sequence[Tensor], enough: float | None
) -> int:
    """Number of sequences that together have ``enough`` tokens per channel of the widest output."""
    if enough is None:
        return len(sequences)
    needed = enough * max(target.d_out for target in targets)
    ends = accumulate(len(sequence) for sequence in sequences)
    return min(len(sequences), 1 + sum(tokens < needed for tokens in ends))


def output_statistics(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    settings: OutputGradientSettings,
    limit: float,
    seed: int = 0,
) -> Iterator[tuple[int, dict[str, OutputStatistics]]]:
    """Statistics of the gradients at the outputs of all targets, block by block.

    The loss is the summed cross entropy of a sequence's next tokens, or of the labels that
    ``settings.labels`` asks for; every pass draws the same labels. Weights require no gradient, so
    the backward pass costs about as much as a forward pass. One pass processes as many blocks as
    ``limit`` allows; the blocks below them run without a graph.

    The model is in evaluation mode, and left without gradients; sequences ``(tokens,)`` are
    processed one by one, unpadded. The outputs of a group's layers are concatenated. ``limit`` is
    in bytes; if a sequence's graph is larger, activations are recomputed. The labels are drawn with
    ``seed``.

    Yields:
        Block index and the statistics by target name; not kept here.
    """
    groups = block_groups(targets, limit)
    read = sequences[: sequences_read(targets, sequences, settings.enough)]
    for number, blocks in enumerate(groups):
        members = [target for target in targets if target.block in blocks]
        doing = "gradients at the outputs"
        if len(groups) > 1:
            doing += f", blocks {blocks[0]} to {blocks[-1]} (pass {number + 1} of {len(groups)})"
        with checkpointed(model, not graph_fits(model, members, read, limit)):
            outputs = _collect(model, members, read, settings, seed, doing)
        for block in blocks:
            names = [target.name for target in members if target.block == block]
            yield block, {name: outputs.pop(name).result() for name in names}


def joint_statistics(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    settings: OutputGradientSettings,
    seed: int = 0,
) -> Iterator[BlockStatistics]:
    """Statistics of inputs and outputs from one forward and backward pass, all held at once.

    Equal to those of :func:`output_statistics` and
    :func:`~flrc.calibration.input_statistics.input_statistics`, with one forward pass fewer.
    """
    widths = {target.input_group: target.d_in for target in targets}
    inputs = {name: InputAccumulator(width, model.device) for name, width in widths.items()}
    doing = "inputs and gradients at the outputs"
    count = sequences_read(targets, sequences, settings.enough)
    with input_hooks(model, {name: group.add for name, group in inputs.items()}):
        outputs = _collect(model, targets, sequences[:count], settings, seed, doing)
        with torch.no_grad():
            for sequence in progress(sequences[count:], "inputs", unit="sequence"):
                model.base_model(input_ids=sequence[None].to(model.device), use_cache=False)
    for block in sorted({target.block for target in targets}):
        members = [target for target in targets if target.block == block]
        groups = dict.fromkeys(target.input_group for target in members)
        yield BlockStatistics(
            block,
            {name: inputs.pop(name).result() for name in groups},
            {target.name: outputs.pop(target.name).result() for target in members},
        )


def _collect(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    settings: OutputGradientSettings,
    seed: int,
    doing: str,
) -> dict[str, OutputAccumulator]:
    accumulators = {t.name: OutputAccumulator(t.d_out, model.device, settings) for t in targets}
    with ExitStack() as stack:
        first = min(target.block for target in targets)
        stack.callback(_graph_starts_at(model, targets, first))
        for target in targets:
            joint = _Joint(len(target.layers), accumulators[target.name])
            for position, layer in enumerate(target.layers):
                module = model.get_submodule(layer.name)
                handle = module.register_forward_hook(partial(joint.watch, position))
                stack.callback(handle.remove)
        generator = torch.Generator(model.device).manual_seed(seed)
        for sequence in progress(sequences, doing, unit="sequence"):
            ids = sequence.to(model.device)
            with torch.enable_grad():
                logits = next_token_logits(model, ids)
            if not bool(torch.isfinite(logits).all()):
                raise not_finite(LOGITS)
            gradient = logit_gradients(logits, ids[1:], settings.labels, generator)
            logits.backward(gradient)  # type: ignore[no-untyped-call]
            del logits, gradient  # each as large as tokens times the vocabulary
    return accumulators


def _graph_starts_at(
    model: PreTrainedModel, targets: Sequence[Target], block: int
) -> Callable[[], None]:
    """Let the autograd graph begin at the input of a block; returns the function that undoes it."""
    model.requires_grad_(False)

    def begin(_module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        leaf = hidden_of(positional, named).detach().requires_grad_(True)
        return ((leaf, *positional[1:]), named) if positional else ((), named | {HIDDEN: leaf})

    _, blocks = decoder_blocks(model)
    return blocks[block].register_forward_pre_hook(begin, with_kwargs=True).remove


class _Joint:
    """Concatenates the output gradients of a group's layers before they are accumulated."""

    def __init__(self, layers: int, accumulator: OutputAccumulator) -> None:
        self.layers = layers
        self.gradients: dict[int, Tensor] = {}
        self.accumulator = accumulator

    def watch(self, position: int, _module: nn.Module, _arguments: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(partial(self.receive, position))  # type: ignore[no-untyped-call]

    def receive(self, position: int, gradient: Tensor) -> None:
        """Add all gradients of a sequence once the last of them has arrived."""
        self.gradients[position] = gradient
        if len(self.gradients) == self.layers:
            parts = [self.gradients[i] for i in range(self.layers)]
            self.accumulator.add(parts[0] if self.layers == 1 else torch.cat(parts, dim=-1))
            self.gradients = {}
