"""Healing end to end, by distillation from the dense model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.core.demand import Demand
from flrc.healing.gradient_tuning import GradientTuning

if TYPE_CHECKING:
    from flrc.healing.healing_input import HealingInput
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class Distilled(GradientTuning):
    """Forward KL to the dense model's next-token distributions, through the whole model.

    The dense model's last hidden states are taken before it is compressed; its logits are made of
    them again in chunks, so that it is never held beside the compressed model.

    Source: knowledge distillation (Hinton, Vinyals and Dean, arXiv 1503.02531) at temperature 1; of
        factors of compressed models, on their calibration tokens, RILQ (arXiv 2412.01129).
    Differs: all factors are tuned instead of adapters, under every plan of a schedule; the state
        is chosen on unseen sequences.

    Attributes:
        chunk: Tokens whose logits exist at a time.
    """

    name: str = "distilled"
    chunk: int = 256

    def check(self) -> None:
        """Also checks the chunk."""
        super().check()
        self.require(self.chunk >= 1, "chunk", "an integer of at least 1")

    def demand(self, shape: ModelShape, lengths: Sequence[int], kept: float) -> Demand:
        """A dense pass, then a forward and a backward pass a step, and the checks."""
        seen, unseen = list(lengths), list(lengths[: self.held_out])
        tokens = sum(seen)
        head = Demand(model=2 * tokens * shape.head)
        taught = shape.forward(seen + unseen, head=False)
        forward = shape.forward(seen, kept=kept, head=False)
        judged = shape.forward(unseen, kept=kept) + shape.forward(unseen, first=len(shape.blocks))
        # Backward: gradients of activations and of weights, each as much as the forward pass.
        a_pass = forward * 3 + head * 3
        numbers = kept * sum(target.dense for target in shape.targets)
        steps = self.steps(len(seen))
        found = taught + a_pass * self.passes + judged * (1 + self.checks)
        graph = shape.graph_bytes(0, max(seen, default=0))
        states = sum(seen + unseen) * shape.width * shape.itemsize
        held = graph + states + numbers * (8 + 4 + (4 if shape.itemsize < 4 else 0))
        return (found + Demand(moved=28 * numbers * steps)).holding(held)

    def heal(self, given: HealingInput) -> dict[str, Any]:
        """Take the dense states, replace the layers, tune them."""
        from flrc.healing.healing_input import distilled

        lessons = given.lessons()
        given.replace(given.dense.targets)
        return {self.name: distilled(given, self, lessons).to_json()}
