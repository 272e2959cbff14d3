"""Token streams of plain text, and windows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def token_stream(rows: Iterable[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    r"""Tokenise a split as one text.

    The rows are joined with two newlines (for WikiText-2, blank rows included, this is the text
    that published perplexities are measured on) and tokenised once. The tokenizer's special tokens
    stand at the start of the stream only, as they do in that procedure; one that the tokenizer
    would put at the end is left out.

    Args:
        rows: Rows with a ``text`` column.
        tokenizer: The model's tokenizer.

    Returns:
        ``(tokens,)`` token ids, int64.

    Source: GPTQ's data loader, used by SVD-LLM and ASVD: ``tokenizer("\n\n".join(rows["text"]))``.
    """
    import torch

    text = "\n\n".join(row["text"] for row in rows)
    # verbose=False: the stream is meant to be longer than the model's context, so the warning would
    # mislead.
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([*_opening_tokens(tokenizer), *ids], dtype=torch.int64)


def windows(stream: Tensor, length: int) -> Tensor:
    """Cut a stream into non-overlapping windows, from its start; the remainder is dropped.

    Args:
        stream: ``(tokens,)``.
        length: Tokens of a window.

    Returns:
        ``(tokens // length, length)``.

    Raises:
        UserError: If the stream is shorter than one window.
    """
    count = stream.numel() // length
    if count == 0:
        raise UserError(
            f"the text has {stream.numel()} tokens, less than one window",
            given=f"windows of {length} tokens",
            allowed=f"at most {stream.numel()} tokens a window",
        )
    return stream[: count * length].view(count, length)


def sample_windows(stream: Tensor, length: int, samples: int, seed: int) -> Tensor:
    """Draw non-overlapping windows without replacement.

    A smaller number of samples with the same seed gives the first of the larger draw.

    Args:
        stream: ``(tokens,)``.
        length: Tokens of a window.
        samples: Number of windows.
        seed: Of the draw.

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
            fix="take fewer or shorter samples, or more text",
        )
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return windows(stream, length)[order[:samples]]


def _opening_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Special tokens that the tokenizer puts before a text."""
    plain: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed: list[int] = tokenizer("a")["input_ids"]
    for start in range(len(framed) - len(plain) + 1):
        if framed[start : start + len(plain)] == plain:
            return framed[:start]
    raise ValueError(
        f"{type(tokenizer).__name__} changes a text's tokens when it adds special tokens"
    )
