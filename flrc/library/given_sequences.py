"""Calibration sequences that the caller of the library gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from flrc.calibration.base import Calibration
from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource


@dataclass(init=False)
class GivenSequences(Calibration):
    """Sequences in memory; a record holds their digest, never the text.

    Attributes:
        digest: SHA-256 of the sequences as given.
        tokens: Digest of the token ids that the tokenizer of a model in memory makes of them;
            empty where the model's fingerprint already determines the tokenizer.

    Args:
        sequences: Texts, or token ids as integer tensors ``(tokens,)``, arrays or lists.

    Raises:
        UserError: If they are anything else.
    """

    SHORTER: ClassVar[str] = "shorter texts, or fewer token ids"

    name: str = "given"
    digest: str = ""
    tokens: str = ""

    def __init__(self, sequences: Sequence[str | Sequence[int] | Tensor]) -> None:
        listed = isinstance(sequences, Sequence) and not isinstance(sequences, str | bytes)
        if not listed or not sequences:
            raise UserError(
                "calibration must be a non-empty list of sequences",
                given=f"calibration={type(sequences).__name__}: {repr(sequences)[:60]}",
                allowed="a list of texts, or of token ids as integer tensors (tokens,) or lists",
            )
        self._sequences = [_checked(index, sequence) for index, sequence in enumerate(sequences)]
        digest = hashlib.sha256()
        for sequence in self._sequences:
            content = sequence.encode() if isinstance(sequence, str) else sequence.numpy().tobytes()
            digest.update(f"{len(content)}:".encode() + content)
        super().__init__(name="given", samples=len(self._sequences))
        self.digest = digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Without ``tokens`` if it is empty."""
        return {k: v for k, v in super().describe().items() if k != "tokens" or v}

    def splits(self) -> list[tuple[str, str]]:
        """Empty: no data set is read."""
        return []

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """The sequences as token ids; texts are tokenized without a chat template."""
        tokenized = [
            torch.tensor(tokenizer(sequence)["input_ids"], dtype=torch.int64)
            if isinstance(sequence, str)
            else sequence
            for sequence in self._sequences
        ]
        for index, ids in enumerate(tokenized):
            if len(ids) < 2:
                raise UserError(
                    "a calibration sequence is too short",
                    given=f"sequence {index}: {len(ids)} tokens",
                    allowed="two tokens or more",
                )
        return tokenized


def _checked(index: int, sequence: Any) -> str | Tensor:
    """One sequence: a text, or int64 token ids on the CPU."""

    def refuse(reason: str) -> UserError:
        return UserError(
            "a calibration sequence is neither a text nor token ids",
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
