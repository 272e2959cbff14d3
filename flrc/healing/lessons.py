"""What a tuning learns from: token sequences, and the dense model's states on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import PreTrainedModel

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import Entry
from flrc.healing.generated import Generated, check_decoding, generated
from flrc.healing.prompts import prompts
from flrc.healing.teacher import check_head, dense_states

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


def check(model: PreTrainedModel, sequences: Sequence[Tensor], settings: Distilled) -> None:
    """Raise UserError if the model cannot teach, on a few tokens."""
    check_head(model, sequences[0])
    begun = prompts(sequences[:1], settings.generated, settings.parts, settings.prompt)
    if begun:
        check_decoding(model, begun)


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
    states = dense_states(dense.model, [*dense.sequences, *unseen])
    made, tokens = _generated(dense, settings, entry)
    seen = len(dense.sequences)
    return (
        Lesson(
            [*dense.sequences, *(each.ids for each in made)],
            [*states[:seen], *(each.states for each in made)],
            tokens,
        ),
        Lesson(unseen, states[seen:]),
    )


def _generated(dense: DenseModel, settings: Distilled, entry: Entry) -> tuple[list[Generated], int]:
    """The sequences, and their tokens without those of the prompts."""
    begun = prompts(dense.sequences, settings.generated, settings.parts, settings.prompt)
    if not begun:
        return [], 0
    from safetensors.torch import load_file

    with entry.lock():
        if not entry.done:
            tensors: dict[str, Tensor] = {}
            for index, made in enumerate(generated(dense.model, begun, dense.seed)):
                tensors |= {f"{index}/ids": made.ids, f"{index}/states": made.states}
            entry.write_tensors(GENERATED, tensors, {})
            entry.finish()
        known = load_file(entry.path / GENERATED)
    found = [Generated(known[f"{i}/ids"], known[f"{i}/states"]) for i in range(len(begun))]
    return found, sum(prompt.length - len(prompt.ids) for prompt in begun)
