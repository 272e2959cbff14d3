"""Runs a model from any block onwards, in batches, and counts the cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from flrc.allocator.divergence import Divergence, MeanDivergence, log_probabilities
from flrc.models.anatomy.block_by_block import BlockCall, block_calls
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.replaced_forwards import replaced


@dataclass
class Cost:
    """Cost of measuring.

    Attributes:
        probes: Single truncations and whole plans that were measured.
        block_tokens: Tokens times decoder blocks that they went through.
        head_tokens: Tokens that went through the output head.
        seconds: Wall time.
    """

    probes: float = 0
    block_tokens: float = 0
    head_tokens: float = 0
    seconds: float = 0.0

    def add(self, other: Cost) -> None:
        """Add another cost to this one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Batch:
    """Sequences of one length that are run together.

    Attributes:
        ids: ``(sequences, tokens)``.
        call: What each block is called with; of batch size 1, so it broadcasts.
        final: ``(sequences, tokens, width)``, what the last block of the dense model returns.
    """

    ids: Int[Tensor, "sequences tokens"]
    call: BlockCall
    final: Float[Tensor, "sequences tokens width"] | None = None


class PartialRun:
    """A model as embedding, blocks and head that are called one by one.

    The model is in evaluation mode; sequences are token ids ``(tokens,)``, two or more each.
    ``limit`` is the largest number of tokens in a batch of candidates; a :class:`Batch` holds an
    eighth of that, or one sequence, so that several candidates fit.

    Attributes:
        cost: Cost since the owner last replaced it.
    """

    def __init__(self, model: PreTrainedModel, sequences: Sequence[Tensor], limit: int) -> None:
        if any(len(sequence) < 2 for sequence in sequences) or not sequences:
            raise ValueError("measuring needs at least one sequence, of two tokens or more each")
        self.model = model
        self.sequences = sequences
        self.limit = limit
        self.blocks = decoder_blocks(model)[1]
        self.tokens = sum(len(sequence) for sequence in sequences)
        self.cost = Cost()

    @cached_property
    @torch.no_grad()
    def dense(self) -> tuple[Divergence, list[Batch]]:
        """One pass of the dense model: its likelihood, and batches with its last hidden states."""
        mean = MeanDivergence()
        batches = self._batches()
        for batch in batches:
            hidden = self.embed(batch)
            for index in range(len(self.blocks)):
                hidden = self.block(index, batch, hidden)
            batch.final = hidden
            same = self.log_probabilities(batch, hidden)
            mean.add(same, same, batch.ids[:, 1:])
        return Divergence(mean.result().nll, 0.0), batches

    def _batches(self) -> list[Batch]:
        by_length: dict[int, list[Tensor]] = {}
        for sequence in self.sequences:
            by_length.setdefault(len(sequence), []).append(sequence)
        batches = []
        for length, alike in by_length.items():
            call = block_calls(self.model, alike[0][None])
            size = max(1, self.limit // 8 // length)
            for begin in range(0, len(alike), size):
                ids = torch.stack(list(alike[begin : begin + size])).to(self.model.device)
                batches.append(Batch(ids, call))
        return batches

    def embed(self, batch: Batch) -> Tensor:
        """``(sequences, tokens, width)``: the input of the first block."""
        return block_calls(self.model, batch.ids).hidden

    def block(self, index: int, batch: Batch, hidden: Tensor) -> Tensor:
        """One block on hidden states of the batch, of one candidate or several."""
        self.cost.block_tokens += hidden.shape[0] * hidden.shape[1]
        return batch.call.run(index, self.blocks[index], hidden)

    def log_probabilities(self, batch: Batch, hidden: Tensor) -> Tensor:
        """``(sequences, tokens - 1, vocabulary)`` after the last block.

        The model's own forward runs with blocks that all return ``hidden``, so the model itself
        does whatever follows them (norm, scaling, soft-capping).
        """
        self.cost.head_tokens += batch.ids.numel()
        last = batch.call.returned(hidden)
        with replaced((block, lambda *_, **__: last) for block in self.blocks):
            logits = self.model(input_ids=batch.ids, use_cache=False).logits
        return log_probabilities(logits[:, :-1])

    def dense_log_probabilities(self, batch: Batch) -> Tensor:
        """The dense model's, recomputed from the output of its last block."""
        assert batch.final is not None
        return self.log_probabilities(batch, batch.final)

    def forwards(self, cost: Cost, tokens: int | None = None) -> float:
        """A cost as a multiple of one forward pass of the dense model.

        Blocks and head count by their parameters; attention's quadratic part and the embedding are
        left out. The pass is over ``tokens``; None for those of all sequences of this object.
        """
        tokens = self.tokens if tokens is None else tokens
        block = sum(p.numel() for p in self.blocks.parameters()) / len(self.blocks)
        head = int(self.model.get_output_embeddings().weight.numel())
        return (cost.block_tokens * block + cost.head_tokens * head) / (
            tokens * (len(self.blocks) * block + head)
        )
