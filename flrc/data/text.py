"""Token streams of plain text, and windows of these streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def token_stream(rows: Iterable[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    r"""Tokenise a split as one text.

    The rows are joined with two newlines and tokenised once; for WikiText-2, blank rows included,
    this is the text on which published perplexities are measured. As there, the tokenizer's special
    tokens stand only at the start of the stream; a special token for the end is omitted.

    Returns:
        ``(tokens,)`` token ids, int64.

    Source: GPTQ's data loader, used by SVD-LLM and ASVD: ``tokenizer("\n\n".join(rows["text"]))``.
    """
    import torch

    text = "\n\n".join(row["text"] for row in rows)
    # verbose=False: a stream longer than the model's context is intended, so no warning.
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([*_opening_tokens(tokenizer), *ids], dtype=torch.int64)


def windows(stream: Tensor, length: int) -> Tensor:
    """Split ``(tokens,)`` into windows ``(tokens // length, length)``, without the remainder.

    Raises:
        UserError: If the stream is shorter than one window.
    """
    count = stream.numel() // length
    if count == 0:
        raise UserError(
            f"the text has {stream.numel()} tokens, fewer than one window",
            given=f"windows of {length} tokens",
            allowed=f"windows of at most {stream.numel()} tokens",
        )
    return stream[: count * length].view(count, length)


def sample_windows(stream: Tensor, length: int, samples: int, seed: int) -> Tensor:
    """Draw non-overlapping windows without replacement.

    With the same seed, fewer samples are the first ones of a larger draw.

    Returns:
        ``(samples, length)``, in the order of the draw.

    Raises:
        UserError: If the stream has fewer windows; names how many.

    Differs: SVD-LLM draws random character offsets, which may overlap.
    """
    import torch

    available = stream.numel() // length
    if samples > available:
        raise UserError(
            f"the text has {available} windows of {length} tokens",
            given=f"{samples} samples of {length} tokens",
            allowed=f"at most {available} samples of this length",
            fix="use fewer or shorter samples, or more text",
        )
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return windows(stream, length)[order[:samples]]


def _opening_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Special tokens that the tokenizer inserts before a text."""
    plain: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed: list[int] = tokenizer("a")["input_ids"]
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            return framed[:start]
    raise ValueError(
        f"{type(tokenizer).__name__} changes a text's tokens when it adds special tokens"
    )
