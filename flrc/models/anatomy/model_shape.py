"""The shape of a model, and what its forward and backward passes demand; reads no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from flrc.core.demand import Demand
from flrc.models.anatomy.blocks import decoder_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.plans.target import Target

INSIDE = 3
"""Numbers in a block's graph for each number that its linear layers output: norms, the activation
function and attention keep their own."""
LOGITS = 3
"""Arrays of tokens times vocabulary, in float32, that scoring logits holds."""


@dataclass(frozen=True)
class BlockShape:
    """One decoder block.

    Attributes:
        weights: Entries of all its matrices.
        outputs: Numbers that its linear layers output for one token.
        targets: What is compressed of it.
    """

    weights: int
    outputs: int
    targets: tuple[Target, ...]

    @property
    def dense(self) -> int:
        """Entries of the targets' weights."""
        return sum(target.dense for target in self.targets)


@dataclass(frozen=True)
class ModelShape:
    """What the cost of running a model depends on.

    A token meets each weight of the blocks once: of a mixture of experts, every expert is counted.

    Attributes:
        blocks: The decoder blocks.
        width: Numbers of a token's hidden state.
        attention: Numbers of a token's queries in one block.
        cached: Numbers of keys and values that a token leaves in the cache, in all blocks.
        vocabulary: Rows of the head.
        head: Entries of the head.
        parameters: Of the whole model; tied ones count once.
        itemsize: Bytes of one number.
    """

    blocks: tuple[BlockShape, ...]
    width: int
    attention: int
    cached: int
    vocabulary: int
    head: int
    parameters: int
    itemsize: int

    @classmethod
    def of(cls, model: PreTrainedModel, targets: Sequence[Target]) -> ModelShape:
        """The shape of a model, which needs no weights, in its dtype."""
        config = model.config.get_text_config()
        blocks = []
        for index, block in enumerate(decoder_blocks(model)[1]):
            weights = sum(p.numel() for p in block.parameters() if p.dim() > 1)
            outputs = sum(m.out_features for m in block.modules() if isinstance(m, nn.Linear))
            here = tuple(target for target in targets if target.block == index)
            blocks.append(BlockShape(weights, outputs, here))
        head = model.get_output_embeddings()
        queries = getattr(config, "num_attention_heads", None) or 1
        width = getattr(config, "head_dim", None) or config.hidden_size // queries
        shared = getattr(config, "num_key_value_heads", None) or queries
        return cls(
            blocks=tuple(blocks),
            width=config.hidden_size,
            attention=queries * width,
            cached=2 * len(blocks) * shared * width,
            vocabulary=0 if head is None else len(head.weight),
            head=0 if head is None else head.weight.numel(),
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            itemsize=next(model.parameters()).element_size(),
        )

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return self.parameters * self.itemsize

    @property
    def targets(self) -> list[Target]:
        """What is compressed."""
        return [target for block in self.blocks for target in block.targets]

    @property
    def block_bytes(self) -> int:
        """Of the weights of the largest block."""
        return max(block.weights for block in self.blocks) * self.itemsize

    def graph_bytes(self, first: int, longest: int) -> int:
        """Of the autograd graph of one sequence from block ``first`` on, without the head."""
        outputs = sum(block.outputs for block in self.blocks[first:])
        return INSIDE * longest * outputs * self.itemsize

    def recomputed_bytes(self, first: int, longest: int) -> int:
        """Of the graph of one block, and of the inputs that make those from ``first`` on again."""
        blocks = self.blocks[first:]
        outputs = max((block.outputs for block in blocks), default=0)
        return longest * self.itemsize * (INSIDE * outputs + self.width * len(blocks))

    def forward(
        self,
        lengths: Sequence[int],
        *,
        kept: float = 1.0,
        first: int = 0,
        head: bool = True,
        batch: int = 1,
    ) -> Demand:
        """One pass over sequences, each token of which meets every weight once.

        Args:
            lengths: Tokens of each sequence.
            kept: Share of the targets' weights that is used.
            first: The block that it begins with.
            head: Whether logits are computed, of all tokens.
            batch: Sequences that run together.
        """
        tokens, squares = sum(lengths), sum(length**2 for length in lengths)
        blocks = self.blocks[first:]
        weights = sum(block.weights - (1 - kept) * block.dense for block in blocks)
        outputs = sum(block.outputs for block in blocks)
        operations = 2 * tokens * weights + 4 * squares * self.attention * len(blocks)
        passes = -(-len(lengths) // batch)
        moved = passes * weights * self.itemsize + 2 * INSIDE * tokens * outputs * self.itemsize
        longest = batch * max(lengths, default=0)
        widest = max((block.outputs for block in blocks), default=0)
        held: float = longest * (widest + 2 * self.width) * self.itemsize
        if head:
            operations += 2 * tokens * self.head
            row = self.vocabulary * (self.itemsize + 4 * LOGITS)
            moved += passes * self.head * self.itemsize + 2 * tokens * row
            held += longest * row
        calls = passes * len(blocks)
        return Demand(model=operations, moved=moved, calls=calls, held=held)

    def backward(
        self, lengths: Sequence[int], *, first: int = 0, of_weights: bool, recomputed: bool
    ) -> Demand:
        """The pass back from the logits to block ``first``, after a forward pass.

        Args:
            lengths: Tokens of each sequence; they run one by one.
            first: The lowest block that the graph contains.
            of_weights: Whether gradients of the targets' weights are computed.
            recomputed: Whether the activations of a block are computed again.
        """
        tokens, squares = sum(lengths), sum(length**2 for length in lengths)
        blocks = self.blocks[first:]
        weights = sum(block.weights for block in blocks)
        longest = max(lengths, default=0)
        operations = 2 * tokens * (weights + self.head) + 8 * squares * self.attention * len(blocks)
        moved = 2 * INSIDE * tokens * sum(block.outputs for block in blocks) * self.itemsize
        moved += 2 * tokens * self.vocabulary * 4 * LOGITS
        held = float(longest * self.vocabulary * (self.itemsize + 4 * LOGITS))
        if of_weights:
            dense = sum(block.dense for block in blocks)
            operations += 2 * tokens * (dense - self.first_group(first))
            # Each gradient is written, then multiplied by the weight, squared and summed twice.
            moved += 6 * len(lengths) * dense * 4
            held += 3 * 4 * max((t.dense for block in blocks for t in block.targets), default=0)
        calls = 2 * len(lengths) * len(blocks)
        if recomputed:
            held += self.recomputed_bytes(first, longest)
        else:
            held += self.graph_bytes(first, longest)
        found = Demand(model=operations, moved=moved, calls=calls, held=held)
        if not recomputed:
            return found
        # Torch stops before each block's last product: nothing that it computes is needed.
        last = sum(block.targets[-1].dense for block in blocks if block.targets)
        again = self.forward(lengths, first=first, head=False)
        return found + again + Demand(model=-2 * tokens * last)

    def first_group(self, first: int) -> int:
        """Entries of the layers below which no gradient is needed."""
        targets = self.blocks[first].targets
        return sum(t.dense for t in targets if t.input_group == targets[0].input_group)

    def generation(
        self, prompts: Sequence[int], *, new_tokens: int, batch: int, kept: float = 1.0
    ) -> Demand:
        """Replies of full length to prompts, sorted and padded to the longest of their batch.

        Args:
            prompts: Tokens of each prompt.
            new_tokens: Tokens of each reply.
            batch: Prompts that are generated together.
            kept: Share of the targets' weights that a step uses.
        """
        ordered, demand = sorted(prompts), Demand()
        weights = sum(block.weights - (1 - kept) * block.dense for block in self.blocks)
        for begin in range(0, len(ordered), batch):
            size = len(ordered[begin : begin + batch])
            prompt = ordered[begin : begin + batch][-1]
            steps = new_tokens - 1
            # The tokens that each step attends to, its own included.
            contexts = sum(range(prompt + 1, prompt + steps + 1))
            met = weights + self.head
            attended = 4 * size * contexts * self.attention * len(self.blocks)
            prefill = self.forward([prompt] * size, kept=kept, head=False, batch=size)
            first = Demand(2 * size * self.head, moved=self.head * self.itemsize)
            decoding = Demand(
                model=2 * size * steps * met + attended,
                moved=self.itemsize * (steps * met + size * contexts * self.cached),
                calls=steps * len(self.blocks),
            )
            row = self.vocabulary * (self.itemsize + 4)
            cache = size * (prompt + new_tokens) * self.cached * self.itemsize
            demand += (prefill + first + decoding).holding(cache + size * row)
        return demand
