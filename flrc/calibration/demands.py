"""What collecting statistics demands, counted from the shape of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flrc.calibration.output_statistics import block_groups
from flrc.core.demand import Demand, total

if TYPE_CHECKING:
    from flrc.models.anatomy.model_shape import BlockShape, ModelShape

SUMMED = 20
"""Bytes moved for an entry of a float64 sum to which a float32 product is added."""


def of_inputs(shape: ModelShape, lengths: Sequence[int]) -> Demand:
    """A forward pass block by block, and the Gram matrices of one block's inputs at a time.

    The hidden states of all sequences are held.
    """
    grams = total(input_grams(block, lengths) for block in shape.blocks)
    states = sum(lengths) * shape.width * shape.itemsize
    passed = shape.forward(lengths, head=False)
    return passed.holding(grams.held + states) + Demand(single=grams.single, moved=grams.moved)


def input_grams(block: BlockShape, lengths: Sequence[int]) -> Demand:
    """The Gram matrices of the inputs of one block, from its inputs."""
    widths = {target.input_group: target.d_in for target in block.targets}.values()
    entries = sum(width**2 for width in widths)
    return Demand(
        single=2 * sum(lengths) * entries,
        moved=SUMMED * len(lengths) * entries,
        held=8 * entries + 4 * max(widths, default=0) ** 2,
    )


def of_outputs(
    shape: ModelShape, lengths: Sequence[int], *, memory: float, on_host: bool = False
) -> Demand:
    """Forward and backward passes, each with the Gram matrices of as many blocks as ``memory`` has.

    Args:
        shape: Of the model.
        lengths: Tokens of each sequence whose gradients are read.
        memory: Bytes of Gram matrices that are held at a time, and of a sequence's graph; if that
            is larger, activations are computed again.
        on_host: Whether the blocks wait on the host: then they are computed again too.
    """
    found, tokens = Demand(), sum(lengths)
    for blocks in block_groups(shape.targets, memory):
        members = [target for target in shape.targets if target.block in blocks]
        entries = sum(target.d_out**2 for target in members)
        large = shape.graph_bytes(blocks[0], max(lengths, default=0)) > memory
        back = shape.backward(
            lengths, first=blocks[0], of_weights=False, recomputed=on_host or large
        )
        summed = Demand(single=2 * tokens * entries, moved=8 * len(lengths) * entries)
        found += (shape.forward(lengths) + back + summed).holding(4 * entries)
    return found


def of_both(shape: ModelShape, lengths: Sequence[int], read: int) -> Demand:
    """Statistics of inputs and outputs from one forward and backward pass, all held at once.

    Args:
        shape: Of the model.
        lengths: Tokens of each sequence.
        read: Number of the sequences whose gradients are read; the others only run forward.
    """
    outputs = of_outputs(shape, lengths[:read], memory=float("inf"))
    grams = [input_grams(block, lengths) for block in shape.blocks]
    rest = shape.forward(lengths[read:], head=False)
    summed = total(grams)
    held = sum(8 * t**2 for block in shape.blocks for t in {
        target.input_group: target.d_in for target in block.targets}.values())  # fmt: skip
    return (outputs + rest + Demand(single=summed.single, moved=summed.moved)).holding(held)
