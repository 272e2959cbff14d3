"""End to end: the compressed model's next-token distribution is moved to the dense model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from flrc.calibration.activation_checkpointing import checkpointed
from flrc.healing.course import Course
from flrc.healing.distilled import Distilled
from flrc.healing.divergence import divergence
from flrc.healing.draws import Tuned, drawn
from flrc.healing.lessons import Lesson
from flrc.healing.states import States
from flrc.healing.teacher import head_of, last_states
from flrc.healing.trained import Trained
from flrc.healing.tuning import Objective, tune
from flrc.models.layers.switching import activate


@dataclass
class NextTokens(Objective):
    """Forward KL to the dense model's next-token distributions, in nats per token.

    Attributes:
        model: Compressed, in evaluation mode.
        seen: What it is tuned on.
        unseen: What it is judged by.
        plans: The plans that are tuned.
        settings: How.
        seed: Of the order of the sequences.
    """

    model: PreTrainedModel
    seen: Lesson
    unseen: Lesson
    plans: Sequence[Tuned]
    settings: Distilled
    seed: int

    def backward(self, step: int) -> float:
        """One plan, and the next sequences of the pass."""
        weights = [tuned.weight for tuned in self.plans]
        activate(self.model, self.plans[drawn(weights, step)].plan)
        batch = batches(len(self.seen.sequences), self.settings.batch_size, step, self.seed)
        tokens = sum(len(self.seen.sequences[index]) for index in batch)
        return sum(self._backward(index, tokens) for index in batch)

    def _backward(self, index: int, tokens: int) -> float:
        """The part of one sequence in the mean over all ``tokens`` of a step."""
        with torch.enable_grad():
            states = last_states(self.model, self.seen.sequences[index])
        dense = self.seen.states[index].to(states.device)
        head, chunk = head_of(self.model), self.settings.chunk
        loss, gradient = divergence(states.detach(), dense, head, chunk)
        assert gradient is not None
        share = len(dense) / tokens
        states.backward(gradient * share)  # type: ignore[no-untyped-call]
        return share * loss

    @torch.no_grad()
    def judge(self) -> float:
        """The mean over tokens of the held-out sequences and over plans, by their weights."""
        head, chunk, total = head_of(self.model), self.settings.chunk, 0.0
        tokens = sum(len(sequence) for sequence in self.unseen.sequences)
        for tuned in self.plans:
            activate(self.model, tuned.plan)
            for sequence, known in zip(self.unseen.sequences, self.unseen.states, strict=True):
                states = last_states(self.model, sequence)
                dense = known.to(states.device)
                loss, _ = divergence(states, dense, head, chunk, gradient=False)
                total += tuned.weight * loss * len(sequence) / tokens
        return total


def batches(sequences: int, size: int, step: int, seed: int) -> list[int]:
    """The sequences of a step, in the order drawn for its pass."""
    a_pass = -(-sequences // size)
    generator = torch.Generator().manual_seed(seed + step // a_pass)
    order: list[int] = torch.randperm(sequences, generator=generator).tolist()
    begin = size * (step % a_pass)
    return order[begin : begin + size]


def distil(
    objective: NextTokens, states: States, recomputed: bool, doing: str = "healing"
) -> tuple[Trained, Course]:
    """Tune the whole compressed model.

    Args:
        objective: The model, what it is tuned on and how.
        states: Where states are kept.
        recomputed: Whether activations are recomputed in the backward pass.
        doing: What is shown while it works.
    """
    model, settings = objective.model, objective.settings
    model.requires_grad_(False)
    trained = Trained.of(model, model, settings)
    steps = settings.steps(len(objective.seen.sequences))
    with checkpointed(model, recomputed):
        course = tune(objective, trained, settings, steps, states, doing)
    course.generated = objective.seen.generated
    return trained, course
