"""Gram matrices of the gradients at the targets' outputs, in one backward pass a block group.

Where all Gram matrices fit, those of the inputs are taken in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flrc.calibration.activation_checkpointing import checkpointed, graph_fits
from flrc.calibration.input_statistics import input_hooks
from flrc.calibration.output_gradient_settings import OutputGradientSettings
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

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def block_groups(targets: Sequence[Target], limit: float) -> list[list[int]]:
    """Consecutive blocks whose output Grams together stay within ``limit`` bytes (float32).

    A block that is larger than the limit by itself makes a group of its own: that is the least
    there can be.
    """
    sizes: dict[int, int] = {}
    for target in targets:
        sizes[target.block] = sizes.get(target.block, 0) + 4 * target.d_out**2
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
    """How many sequences hold ``enough`` tokens for each channel of the widest target's outputs."""
    needed = float("inf") if enough is None else enough * max(target.d_out for target in targets)
    tokens = 0
    for number, sequence in enumerate(sequences):
        if tokens >= needed:
            return number
        tokens += len(sequence)
    return len(sequences)


def output_statistics(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    settings: OutputGradientSettings,
    limit: float,
    seed: int = 0,
) -> Iterator[tuple[int, dict[str, OutputStatistics]]]:
    """Statistics of the gradients at the outputs of all targets, block by block.

    The loss is the summed cross entropy of a sequence's next tokens, or what ``settings.labels``
    puts in their place; every pass draws the same. Weights ask for no gradient,
    so the backward pass costs about as much as a forward pass. As many blocks are taken in one pass
    as ``limit`` allows; the blocks below a group are run without a graph.

    Args:
        model: In evaluation mode; left without gradients.
        targets: Layers, or groups of layers (whose outputs are joined).
        sequences: Token ids ``(tokens,)`` each; taken one by one, so nothing is padded.
        settings: How gradients enter.
        limit: Bytes of Gram matrices that may be held at a time; and of the graph of a sequence, of
            which blocks are computed again if it is larger.
        seed: Of what is drawn.

    Yields:
        Block index and the statistics by target name; they are dropped once yielded.
    """
    groups = block_groups(targets, limit)
    read = sequences[: sequences_read(targets, sequences, settings.enough)]
    for number, blocks in enumerate(groups):
        members = [target for target in targets if target.block in blocks]
        doing = "gradients at the outputs"
        if len(groups) > 1:
            doing += f", blocks {blocks[0]} to {blocks[-1]} (pass {number + 1} of {len(groups)})"
        with checkpointed(model, not graph_fits(model, members, read, limit)):
            found = _collect(model, members, read, settings, seed, doing)
        for block in blocks:
            names = [target.name for target in members if target.block == block]
            yield block, {name: found.pop(name).result() for name in names}


def joint_statistics(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    settings: OutputGradientSettings,
    seed: int = 0,
) -> Iterator[BlockStatistics]:
    """Statistics of inputs and outputs from one forward and backward pass, all held together.

    The same as those of :func:`output_statistics` and
    :func:`~flrc.calibration.input_statistics.input_statistics`, for one forward pass less.
    """
    widths = {target.input_group: target.d_in for target in targets}
    inputs = {name: InputAccumulator(width, model.device) for name, width in widths.items()}
    doing = "inputs and gradients at the outputs"
    count = sequences_read(targets, sequences, settings.enough)
    with input_hooks(model, {name: found.add for name, found in inputs.items()}):
        outputs = _collect(model, targets, sequences[:count], settings, seed, doing)
        with torch.no_grad():
            for sequence in progress(sequences[count:], "inputs", len(sequences) - count):
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
                handle = module.register_forward_hook(joint.hook(position))
                stack.callback(handle.remove)
        generator = torch.Generator(model.device).manual_seed(seed)
        for sequence in progress(sequences, doing, len(sequences)):
            ids = sequence.to(model.device)
            with torch.enable_grad():
                logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            if not bool(torch.isfinite(logits).all()):
                raise not_finite("the model's logits on the calibration sequences")
            logits.backward(logit_gradients(logits, ids[1:], settings.labels, generator))
    return accumulators


def _graph_starts_at(
    model: PreTrainedModel, targets: Sequence[Target], block: int
) -> Callable[[], None]:
    """Let the graph begin at the input of a block; gives the function that undoes it."""
    model.requires_grad_(False)

    def begin(
        _module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        leaf = hidden_of(positional, named).detach().requires_grad_(True)
        if positional:
            return (leaf, *positional[1:]), named
        return (), named | {HIDDEN: leaf}

    _, blocks = decoder_blocks(model)
    return blocks[block].register_forward_pre_hook(begin, with_kwargs=True).remove


class _Joint:
    """Joins the gradients of a group's layers, token by token, before they are accumulated."""

    def __init__(self, layers: int, accumulator: OutputAccumulator) -> None:
        self.gradients: list[Tensor | None] = [None] * layers
        self.accumulator = accumulator

    def hook(self, position: int) -> Callable[[nn.Module, object, Tensor], None]:
        """The forward hook of the layer at ``position``."""

        def receive(gradient: Tensor) -> None:
            self.gradients[position] = gradient
            known = [g for g in self.gradients if g is not None]
            if len(known) == len(self.gradients):
                self.accumulator.add(known[0] if len(known) == 1 else torch.cat(known, dim=-1))
                self.gradients = [None] * len(self.gradients)

        def watch(_module: nn.Module, _arguments: object, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(receive)  # type: ignore[no-untyped-call]

        return watch
