"""Tunes one decoder block after the other, behind the compressed blocks before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from flrc.core.cache import Entry
from flrc.core.progress import progress
from flrc.healing.block_weights import error_weights, output_grams
from flrc.healing.blockwise import Blockwise
from flrc.healing.draws import Tuned, drawn
from flrc.healing.end_to_end import batches
from flrc.healing.healing_input import HealingInput
from flrc.healing.pivot_exchange import exchange_pivots
from flrc.healing.states import StatesInMemory
from flrc.healing.trained import Trained
from flrc.healing.tuned_tensors import read_tensors, tensors_of
from flrc.healing.tuning import Objective, tune
from flrc.models.anatomy.block_by_block import BlockCall, block_calls
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.layers.switching import activate

GRAMS, BLOCK = "block_grams.safetensors", "healed_block_"
"""Files of an unfinished healing: the weights of errors; names of blocks begin with ``BLOCK``."""


def remove_blocks(entry: Entry) -> None:
    """Delete what an interrupted healing would have continued from: the whole model is stored."""
    for path in (entry.path / GRAMS, *entry.path.glob(f"{BLOCK}*")):
        path.unlink(missing_ok=True)


@torch.no_grad()
def tune_blocks(given: HealingInput, settings: Blockwise) -> list[dict[str, Any]]:
    """Replace and tune all blocks; blocks that an interrupted run has stored are not tuned again.

    Returns:
        How each went, in the order of the blocks.
    """
    model, entry = given.dense.model, given.entry
    _, blocks = decoder_blocks(model)
    if settings.weighting == "gradients" and not entry.has(GRAMS):
        _store_grams(given)
    walk = Walk.of(given)
    courses = []
    for index, block in enumerate(progress(blocks, "healing", unit="block")):
        targets = [target for target in given.dense.targets if target.block == index]
        dense = walk.dense_outputs(index, block)
        given.replace(targets)
        if targets:
            file, notes = f"{BLOCK}{index:03d}", f"{BLOCK}{index:03d}.json"
            if not entry.has(notes):
                matrix = _weights(given, settings, index)
                trained, course = _tuned(given, settings, walk, index, dense, matrix)
                exchange_pivots(block, given.form, trained)
                entry.write_tensors(f"{file}.safetensors", tensors_of(model, block), {})
                entry.write_json(notes, {"block": index, **course.to_json()})
            read_tensors(model, entry.path / f"{file}.safetensors")
            courses.append(entry.read_json(notes))
        walk.advance(index, block, dense)
    return courses


def _store_grams(given: HealingInput) -> None:
    """All Gram matrices come of one backward pass of the dense model; they wait on disk."""
    with torch.enable_grad():
        grams = output_grams(given.dense.model, given.dense.sequences, given.recomputed)
    given.entry.write_tensors(GRAMS, {f"{i:03d}": gram for i, gram in enumerate(grams)}, {})


def _weights(given: HealingInput, settings: Blockwise, index: int) -> Tensor | None:
    """``M`` of one block, on the device."""
    if settings.weighting == "none":
        return None
    with safe_open(given.entry.path / GRAMS, framework="pt") as file:
        gram = file.get_tensor(f"{index:03d}")
    return error_weights(gram.to(given.dense.model.device), settings.isotropic)


def _tuned(
    given: HealingInput,
    settings: Blockwise,
    walk: Walk,
    index: int,
    dense: Sequence[Tensor],
    matrix: Tensor | None,
) -> tuple[Trained, Any]:
    model = given.dense.model
    block = decoder_blocks(model)[1][index]
    model.requires_grad_(False)
    trained = Trained.of(model, block, settings)
    objective = BlockOutputs(
        model, block, index, walk, dense, len(given.dense.sequences), settings,
        given.dense.seed, matrix,
    )  # fmt: skip
    steps = settings.steps(objective.seen)
    return trained, tune(
        objective, trained, settings, steps, StatesInMemory(), f"block {index + 1}"
    )


@dataclass
class Walk:
    """Hidden states of all sequences at the input of the current block, in host memory.

    Attributes:
        calls: What the model passes to its blocks, by length of the sequence; no hidden states.
        plans: The plans that are tuned.
        model: Whose blocks are run.
        dense: In the dense model, ``(1, tokens, width)`` by sequence.
        compressed: Behind the compressed blocks, by plan and sequence.
    """

    calls: dict[int, BlockCall]
    plans: Sequence[Tuned]
    model: PreTrainedModel
    dense: list[Tensor]
    compressed: list[list[Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, given: HealingInput) -> Walk:
        """At the first block, for the seen sequences and then the unseen ones."""
        calls: dict[int, BlockCall] = {}
        states = []
        for sequence in (*given.dense.sequences, *given.unseen):
            call = block_calls(given.dense.model, sequence[None])
            states.append(call.hidden.cpu())
            calls.setdefault(len(sequence), replace(call, hidden=torch.empty(0)))
        copies = [list(states) for _ in given.plans]
        return cls(calls, given.plans, given.dense.model, states, copies)

    def run(self, index: int, block: nn.Module, hidden: Tensor) -> Tensor:
        """The output of a block for one sequence."""
        return self.calls[hidden.shape[1]].run(index, block, hidden.to(self.model.device))

    def dense_outputs(self, index: int, block: nn.Module) -> list[Tensor]:
        """What the dense block gives for every sequence."""
        return [self.run(index, block, hidden).cpu() for hidden in self.dense]

    def advance(self, index: int, block: nn.Module, dense: list[Tensor]) -> None:
        """To the next block; this one is tuned."""
        for plan, states in zip(self.plans, self.compressed, strict=True):
            activate(self.model, plan.plan)
            states[:] = [self.run(index, block, hidden).cpu() for hidden in states]
        self.dense = dense


@dataclass
class BlockOutputs(Objective):
    """Weighted squared error of a block's outputs, as a share of what the dense block adds.

    Attributes:
        model: Its plans are switched.
        block: Compressed.
        index: Of the block.
        walk: Its inputs: the seen sequences first.
        wanted: The dense block's outputs by sequence.
        seen: Number of sequences that it is tuned on; the others judge.
        settings: How.
        seed: Of the order of the sequences.
        weights: ``M``, ``(width, width)``; None for the identity.
    """

    model: nn.Module
    block: nn.Module
    index: int
    walk: Walk
    wanted: Sequence[Tensor]
    seen: int
    settings: Blockwise
    seed: int
    weights: Tensor | None

    @cached_property
    def scale(self) -> float:
        """Mean over tokens of ``u^T M u`` for the dense block's update; 1 if it adds nothing."""
        place = self.walk.model.device
        pairs = zip(self.wanted, self.walk.dense, strict=True)
        updates = (y.to(place) - x.to(place) for y, x in pairs)
        total = sum(float(weighted_squares(update, self.weights)) for update in updates)
        return total / sum(y.shape[1] for y in self.wanted) or 1.0

    def backward(self, step: int) -> float:
        """One plan, and the next sequences of the pass."""
        chosen = drawn([tuned.weight for tuned in self.walk.plans], step)
        activate(self.model, self.walk.plans[chosen].plan)
        batch = batches(self.seen, self.settings.batch_size, step, self.seed)
        tokens = sum(self.wanted[sequence].shape[1] for sequence in batch)
        total = 0.0
        for sequence in batch:
            share = self.wanted[sequence].shape[1] / tokens
            with torch.enable_grad():
                loss = self._loss(chosen, sequence) * share
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def judge(self) -> float:
        """The mean over tokens of the held-out sequences and over plans, by their weights."""
        sequences = range(self.seen, len(self.wanted))
        tokens = sum(self.wanted[sequence].shape[1] for sequence in sequences)
        total = 0.0
        for plan, tuned in enumerate(self.walk.plans):
            activate(self.model, tuned.plan)
            for sequence in sequences:
                share = self.wanted[sequence].shape[1] / tokens
                total += tuned.weight * share * float(self._loss(plan, sequence))
        return total

    def _loss(self, plan: int, sequence: int) -> Tensor:
        wanted = self.wanted[sequence]
        output = self.walk.run(self.index, self.block, self.walk.compressed[plan][sequence])
        error = weighted_squares(output - wanted.to(output.device), self.weights)
        return error / (wanted.shape[1] * self.scale)


def weighted_squares(
    errors: Float[Tensor, "one tokens width"], weights: Float[Tensor, "width width"] | None
) -> Float[Tensor, ""]:
    """The sum over tokens of ``e^T M e``, in float32 or wider."""
    wide = errors.to(torch.promote_types(errors.dtype, torch.float32))
    if weights is None:
        return wide.square().sum()
    return ((wide @ weights.to(wide)) * wide).sum()
