"""Generates replies in batches, and compares replies by their token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from flrc.evaluation.shrinking_batches import in_batches
from flrc.runtime.decoding import Decoder


def generate_replies(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    batch_size: int,
    **options: Any,
) -> list[list[int]]:
    """Token ids of the reply to each prompt, up to and including its end-of-sequence token.

    Prompts are sorted by length, to reduce padding, and left-padded; all sequences of a batch are
    at the same forward step. Batches are halved when memory runs out. ``options`` are those of
    :meth:`~flrc.runtime.decoding.Decoder.generate`.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    ends = set(decoder.end_tokens())
    filler = decoder.padding_token() or 0
    device = decoder.model.device

    def generate(batch: Sequence[int]) -> list[list[int]]:
        rows = [torch.tensor(prompts[i], dtype=torch.int64) for i in batch]
        ids = pad_sequence(rows, True, filler, "left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], True, 0, "left")
        output = decoder.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), **options
        )
        return [up_to_end(row, ends) for row in output.tolist()]

    replies = in_batches(order, batch_size, generate, "generating, batch by batch")
    by_prompt = dict(zip(order, replies, strict=True))
    return [by_prompt[i] for i in range(len(prompts))]


def up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    """The tokens up to and including the first end-of-sequence token."""
    last = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: last + 1]


def agreement(reply: Sequence[int], other: Sequence[int]) -> float:
    """Share of positions of the longer reply where both have the same token; in [0, 1]."""
    longest = max(len(reply), len(other))
    same = sum(a == b for a, b in zip(reply, other, strict=False))
    return same / longest if longest else 1.0
