"""Texts and token ids that the caller of the library gives: checked, and tokenized."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Given = Sequence[str | Sequence[int] | Tensor]
"""Texts, or token ids as integer tensors ``(tokens,)``, arrays or lists."""


@dataclass(frozen=True)
class GivenTexts:
    """A checked list of them.

    Attributes:
        sequences: Texts, or int64 token ids on the CPU.
        what: What one of them is, for errors: ``a calibration sequence``.
    """

    sequences: Sequence[str | Tensor]
    what: str

    @classmethod
    def of(cls, given: Given, argument: str, what: str) -> GivenTexts:
        """Check what was given as ``argument``.

        Raises:
            UserError: If it is anything but a non-empty list of texts and token ids.
        """
        listed = isinstance(given, Sequence) and not isinstance(given, str | bytes)
        if not listed or not given:
            raise UserError(
                f"{argument} must be a non-empty list of sequences",
                given=f"{argument}={type(given).__name__}: {repr(given)[:60]}",
                allowed="a list of texts, or of token ids as integer tensors (tokens,) or lists",
            )
        return cls([_checked(index, sequence, what) for index, sequence in enumerate(given)], what)

    def digest(self) -> str:
        """SHA-256 of the sequences as given."""
        digest = hashlib.sha256()
        for content in self._contents():
            digest.update(f"{len(content)}:".encode() + content)
        return digest.hexdigest()

    def _contents(self) -> list[bytes]:
        return [
            sequence.encode() if isinstance(sequence, str) else sequence.numpy().tobytes()
            for sequence in self.sequences
        ]

    def repeats(self, other: GivenTexts) -> int | None:
        """The index of the first sequence that is also one of ``other``; None if none is."""
        known = set(other._contents())
        found = (index for index, content in enumerate(self._contents()) if content in known)
        return next(found, None)

    def token_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
        """The sequences as token ids; texts are tokenized without a chat template.

        Raises:
            UserError: If one has less than two tokens.
        """
        tokenized = [
            torch.tensor(tokenizer(sequence)["input_ids"], dtype=torch.int64)
            if isinstance(sequence, str)
            else sequence
            for sequence in self.sequences
        ]
        for index, ids in enumerate(tokenized):
            if len(ids) < 2:
                raise UserError(
                    f"{self.what} is too short",
                    given=f"sequence {index}: {len(ids)} tokens",
                    allowed="two tokens or more",
                )
        return tokenized


def _checked(index: int, sequence: Any, what: str) -> str | Tensor:
    """One sequence: a text, or int64 token ids on the CPU."""

    def refuse(reason: str) -> UserError:
        return UserError(
            f"{what} is neither a text nor token ids",
            given=f"sequence {index}: {reason}",
            allowed="a text, or token ids as an integer tensor (tokens,), array or list",
        )

    if isinstance(sequence, str):
        try:
            sequence.encode()
        except UnicodeEncodeError as error:
            raise refuse(f"a text that is not valid Unicode: {error}") from error
        return sequence
    if isinstance(sequence, np.ndarray) and sequence.dtype.kind in "iu":
        sequence = torch.tensor(sequence.astype(np.int64))
    if isinstance(sequence, list | tuple):
        if any(type(token) is not int or not 0 <= token < 2**31 for token in sequence):
            raise refuse(f"a list with entries other than token ids: {repr(sequence)[:60]}")
        sequence = torch.tensor(sequence, dtype=torch.int64)
    if not isinstance(sequence, Tensor):
        raise refuse(type(sequence).__name__)
    integer = not (
        sequence.is_floating_point() or sequence.is_complex() or sequence.dtype == torch.bool
    )
    if sequence.ndim != 1 or not integer or sequence.is_quantized or sequence.device.type == "meta":
        raise refuse(f"a tensor {tuple(sequence.shape)} of {sequence.dtype} on {sequence.device}")
    return sequence.detach().long().cpu()
