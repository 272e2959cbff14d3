"""Healing end to end, by distillation from the dense model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.core.demand import Demand
from flrc.healing.gradient_tuning import GradientTuning
from flrc.healing.parts import BATCH, part_lengths

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.healing.healing_input import HealingInput
    from flrc.models.anatomy.model_shape import ModelShape

LOGITS = 7
"""Numbers of float32 for each logit of a chunk, at a time: of both models, and in between."""


@dataclass
class Distilled(GradientTuning):
    """Forward KL to the dense model's next-token distributions, through the whole model.

    The dense model's last hidden states are taken before it is compressed; its logits are made of
    them again in chunks, so that it is never held beside the compressed model.

    The calibration sequences are few, and the statistics have seen them. So the dense model
    continues the beginnings of their parts, and the factors are tuned on these sequences too: more
    tokens, also of other kinds of text, at no data.

    Source: knowledge distillation (Hinton, Vinyals and Dean, arXiv 1503.02531) at temperature 1; of
        factors of compressed models, on their calibration tokens, RILQ (arXiv 2412.01129).
    Differs: all factors are tuned instead of adapters, under every plan of a schedule; the state
        is chosen on unseen sequences. That the dense model generates what it teaches is from
        LLM-QAT (arXiv 2305.17888), which has no other data; here it continues calibration text.

    Attributes:
        generated: Sequences that the dense model generates of every part of a calibration sequence;
            0: none. A pass goes through them too.
        parts: Into how many parts a calibration sequence is cut for this; a generated sequence is
            as long as its part.
        prompt: Share of a part that is kept as the beginning of its generated sequences.
        chunk: Tokens whose logits exist at a time.
    """

    name: str = "distilled"
    generated: int = 1
    parts: int = 2
    prompt: float = 0.25
    chunk: int = 128

    @property
    def drawn(self) -> dict[str, Any]:
        """What decides the generated sequences, besides the model, the calibration and the seed."""
        asked = {"generated": self.generated, "parts": self.parts, "prompt": self.prompt}
        return {**asked, "batch": BATCH}

    def check(self) -> None:
        """Also checks the generated sequences and the chunk."""
        super().check()
        self.require(self.generated >= 0, "generated", "an integer of at least 0")
        self.require(self.parts >= 1, "parts", "an integer of at least 1")
        self.require(0 < self.prompt < 1, "prompt", "a number in (0, 1)")
        self.require(self.chunk >= 1, "chunk", "an integer of at least 1")

    def demand(self, shape: ModelShape, lengths: Sequence[int], kept: float, fits: bool) -> Demand:
        """Sequences and a dense pass, then two passes a step, and the checks."""
        made = [part for length in lengths for part in part_lengths(length, self.parts)]
        made *= self.generated
        seen, unseen = [*lengths, *made], list(lengths[: self.held_out])
        tokens = sum(seen)
        head = Demand(model=2 * tokens * shape.head)
        taught = shape.forward([*lengths, *unseen], head=False)
        forward = shape.forward(seen, kept=kept, head=False)
        judged = shape.forward(unseen, kept=kept, head=False)
        judged += Demand(model=4 * sum(unseen) * shape.head)  # of both models
        # Backward: gradients of activations and of weights, each as much as the forward pass.
        a_pass = forward * 3 + head * 3
        numbers = kept * sum(target.dense for target in shape.targets)
        steps = self.steps(len(seen))
        if made:
            begun, new = round(self.prompt * max(made)), round((1 - self.prompt) * max(made))
            taught += shape.generation([begun] * len(made), new_tokens=new, batch=BATCH)
        longest = max(seen, default=0)
        graph = shape.graph_bytes(0, longest)
        if not fits:
            a_pass += forward
            graph = shape.recomputed_bytes(0, longest)
        found = taught + a_pass * self.passes + judged * (1 + self.checks)
        states = sum(seen + unseen) * shape.width * shape.itemsize
        logits = LOGITS * 4 * self.chunk * shape.vocabulary
        held = graph + logits + states + self.held(numbers, shape.itemsize)
        return (found + Demand(moved=28 * numbers * steps)).holding(held)

    def check_model(self, model: PreTrainedModel, sequences: Sequence[Tensor]) -> None:
        """The head reads last hidden states alone; sequences can be generated, if any are."""
        from flrc.healing.lessons import check

        check(model, sequences, self)

    def heal(self, given: HealingInput) -> dict[str, Any]:
        """Take the dense states, replace the layers, tune them."""
        from flrc.healing.healing_input import distilled

        lessons = given.lessons(self)
        given.replace(given.dense.targets)
        return {self.name: distilled(given, self, lessons).to_json()}
