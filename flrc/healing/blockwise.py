"""Healing block by block, against the dense blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.core.demand import Demand
from flrc.errors import choose
from flrc.healing.gradient_tuning import GradientTuning

if TYPE_CHECKING:
    from flrc.healing.healing_input import HealingInput
    from flrc.models.anatomy.model_shape import ModelShape

WEIGHTINGS = ("none", "gradients")


@dataclass
class Blockwise(GradientTuning):
    """One decoder block at a time, in the order of the model.

    A block behind the compressed blocks before it is tuned to give what the dense block gives on
    the dense model's inputs: it learns to correct their errors too. The error of the outputs
    ``e = y' - y`` is ``e^T M e``, as a share of ``u^T M u`` for the block's update ``u = y - x``.

    Memory: one block with its optimiser, and the hidden states of all sequences, once dense and
    once for every tuned plan.

    Source: AA-SVD (arXiv 2604.02119), which has the plain squared error and AdamW at 1e-4.
    Differs: ``M`` may be the Gram matrix of the loss gradients at the block's output, which weighs
        an error by what the blocks behind it make of it.

    Attributes:
        weighting: ``none``: plain squared error; ``gradients``: that Gram matrix, which takes one
            backward pass of the dense model.
        isotropic: Share of the plain squared error in ``M`` with ``weighting=gradients``.
    """

    name: str = "blockwise"
    passes: int = 4
    learning_rate: float = 1e-4
    checks: int = 2
    weighting: str = "gradients"
    isotropic: float = 0.1

    def check(self) -> None:
        """Also checks the weighting."""
        super().check()
        choose("heal.weighting", self.weighting, WEIGHTINGS)
        self.require(0 < self.isotropic <= 1, "isotropic", "a number in (0, 1]")

    def demand(self, shape: ModelShape, lengths: Sequence[int], kept: float, fits: bool) -> Demand:
        """Each block: a dense pass, a forward and backward pass a step, checks, a last pass."""
        seen, unseen = list(lengths), list(lengths[: self.held_out])
        dense = shape.forward(seen + unseen, head=False)
        forward = shape.forward(seen, kept=kept, head=False)
        judged = shape.forward(unseen, kept=kept, head=False) * (1 + self.checks)
        found = dense + forward * (3 * self.passes + 1) + judged
        tokens = sum(seen + unseen)
        numbers = kept * max(block.dense for block in shape.blocks)
        outputs = max((block.outputs for block in shape.blocks), default=0)
        graph = 3 * max(seen, default=0) * outputs * shape.itemsize
        moved = 28 * numbers * len(shape.blocks) * self.steps(len(seen))
        states = 3 * tokens * shape.width * shape.itemsize
        best = 4 * numbers
        held = states + graph + best + self.held(numbers, shape.itemsize)
        tuned = found + Demand(moved=moved)
        if self.weighting == "none":
            return tuned.holding(held)
        gram = 4 * shape.width**2
        # The Gram matrix and the scale; errors and their gradients; errors that are judged.
        weighed = sum(seen) * (2 + 2 * self.passes) + sum(unseen) * (2 + self.checks)
        tuned += Demand(single=2 * shape.width**2 * weighed * len(shape.blocks))
        weighted = shape.forward(seen)
        weighted += shape.backward(seen, first=0, of_weights=False, recomputed=not fits)
        return weighted.holding(len(shape.blocks) * gram) + tuned.holding(held + gram)

    def heal(self, given: HealingInput) -> dict[str, Any]:
        """Replace the layers of one block after the other, and tune them."""
        from flrc.healing.block_tuning import tune_blocks

        return {self.name: tune_blocks(given, self)}
