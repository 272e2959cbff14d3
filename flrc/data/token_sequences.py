"""The token ids that a run feeds to the model: checked before any work, part of cache keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from flrc.models.anatomy.input_limits import Limits


@dataclass(frozen=True)
class TokenSequences:
    """The sequences that one stage of a run feeds to the model.

    Attributes:
        label: What a sequence is, for errors: ``a window of wikitext2``.
        ids: Token ids of each sequence.
        fix: The override that makes the sequences shorter.
        new_tokens: Maximum length of the reply generated after each sequence, in tokens.
        last_is_fed: False if the last token of each sequence is only predicted.
    """

    label: str
    ids: Sequence[Sequence[int] | Tensor]
    fix: str
    new_tokens: int = 0
    last_is_fed: bool = True

    def digest(self) -> str:
        """SHA-256 of all token ids, in order."""
        digest = hashlib.sha256()
        for sequence in self._arrays():
            content = sequence.tobytes()
            digest.update(f"{len(content)}:".encode() + content)
        return digest.hexdigest()

    def _arrays(self) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
        import numpy as np

        return (np.asarray(sequence, dtype=np.int64) for sequence in self.ids)

    def check(self, limits: Limits, model: str) -> None:
        """Raise UserError unless all tokens are in the vocabulary and fit the context length.

        The last token of a reply is never fed, so ``n`` new tokens take ``n - 1`` positions.
        """
        if any(len(sequence) == 0 for sequence in self.ids):
            raise UserError(f"{self.label} is empty", given="0 tokens", allowed="one token or more")
        prompt = max(map(len, self.ids), default=0)
        longest = prompt + max(self.new_tokens - 1, 0) - (not self.last_is_fed)
        if limits.context is not None and longest > limits.context:
            reply = f", {self.new_tokens} of them new" if self.new_tokens else ""
            raise UserError(
                f"{self.label} is longer than the model's context length",
                given=f"{prompt + self.new_tokens} tokens{reply}",
                allowed=f"at most {limits.context} tokens ({model})",
                fix=self.fix,
            )
        low = min((int(ids.min()) for ids in self._arrays() if len(ids)), default=0)
        high = max((int(ids.max()) for ids in self._arrays() if len(ids)), default=0)
        if low < 0 or (limits.vocabulary is not None and high >= limits.vocabulary):
            known = "0 or higher" if limits.vocabulary is None else f"0 to {limits.vocabulary - 1}"
            raise UserError(
                f"{self.label} contains a token outside the model's vocabulary",
                given=f"token {low if low < 0 else high}",
                allowed=f"{known} ({model})",
                fix="use the tokenizer that belongs to this model",
            )
