"""What a tuning learns from: token sequences, and the dense model's states on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import Entry
from flrc.healing.generated import generated
from flrc.healing.prompts import prompts
from flrc.healing.teacher import dense_states

if TYPE_CHECKING:
    from flrc.healing.distilled import Distilled

GENERATED = "generated.safetensors"


@dataclass(frozen=True)
class Lesson:
    """Token sequences, and what the dense model makes of them.

    Attributes:
        sequences: Token ids ``(tokens,)``.
        states: The dense model's last hidden states ``(tokens, width)`` of each.
        generated: How many of all tokens the dense model generated.
    """

    sequences: Sequence[Tensor]
    states: Sequence[Tensor]
    generated: int = 0


def lessons(
    dense: DenseModel, unseen: Sequence[Tensor], settings: Distilled, entry: Entry
) -> tuple[Lesson, Lesson]:
    """The sequences with the dense model's states: seen, generated ones included, and unseen.

    Args:
        dense: The model, still dense, and its calibration sequences.
        unseen: Held-out sequences; nothing is generated of them.
        settings: How many are generated.
        entry: Where generated sequences are kept.
    """
    made, tokens = _generated(dense, settings, entry)
    seen = [*dense.sequences, *made]
    states = dense_states(dense.model, [*seen, *unseen])
    return Lesson(seen, states[: len(seen)], tokens), Lesson(unseen, states[len(seen) :])


def _generated(dense: DenseModel, settings: Distilled, entry: Entry) -> tuple[list[Tensor], int]:
    """The sequences, and their tokens without those of the prompts."""
    begun = prompts(dense.sequences, settings.generated, settings.parts, settings.prompt)
    if not begun:
        return [], 0
    from safetensors.torch import load_file

    with entry.lock():
        if not entry.done:
            made = generated(dense.model, begun, dense.seed)
            entry.write_tensors(GENERATED, {str(i): ids for i, ids in enumerate(made)}, {})
            entry.finish()
        known = load_file(entry.path / GENERATED)
    found = [known[str(index)] for index in range(len(begun))]
    return found, sum(prompt.length - len(prompt.ids) for prompt in begun)
