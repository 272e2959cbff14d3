"""What the dense model continues: the beginnings of parts of the calibration sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flrc.healing.parts import part_lengths


@dataclass(frozen=True)
class Prompt:
    """The beginning of a sequence.

    Attributes:
        ids: Token ids ``(tokens,)``; at least one.
        length: Tokens of the whole sequence, those of the prompt included; more than these.
    """

    ids: Tensor
    length: int


def prompts(sequences: Sequence[Tensor], times: int, parts: int, share: float) -> list[Prompt]:
    """A prompt for every part of every sequence, ``times`` over.

    Args:
        sequences: Token ids of at least 2 tokens each.
        times: How many sequences are generated for each part.
        parts: Into how many parts a sequence is cut.
        share: Of a part's tokens, those that are its prompt: at least 1, and not all.
    """
    found = []
    for sequence in sequences:
        for part in torch.split(sequence, part_lengths(len(sequence), parts)):
            kept = min(max(1, round(share * len(part))), len(part) - 1)
            found.append(Prompt(part[:kept], len(part)))
    return found * times
