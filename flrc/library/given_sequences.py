"""Calibration sequences that the caller of the library gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.calibration.base import Calibration
from flrc.core.component import added
from flrc.errors import UserError
from flrc.library.given_texts import Given, GivenTexts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource


@dataclass(init=False)
class GivenSequences(Calibration):
    """Sequences in memory; a record holds their digest, never the text.

    Attributes:
        digest: SHA-256 of the sequences as given.
        tokens: Digest of the token ids that the tokenizer of a model in memory makes of them;
            empty where the model's fingerprint already determines the tokenizer.
        unseen: SHA-256 of the held-out sequences as given; empty if there are none.

    Args:
        sequences: Texts, or token ids as integer tensors ``(tokens,)``, arrays or lists.
        held_out: Likewise, for the healing alone; None: there are none.

    Raises:
        UserError: If they are anything else, or a sequence is both.
    """

    SHORTER: ClassVar[str] = "shorter texts, or fewer token ids"

    name: str = "given"
    digest: str = ""
    tokens: str = ""
    unseen: str = added("")

    def __init__(self, sequences: Given, held_out: Given | None = None) -> None:
        self._sequences = GivenTexts.of(sequences, "calibration", "a calibration sequence")
        self._held_out: GivenTexts | None = None
        super().__init__(name="given", samples=len(self._sequences.sequences))
        self.digest, self.unseen = self._sequences.digest(), ""
        if held_out is not None:
            self._held_out = GivenTexts.of(held_out, "held_out", "a held-out sequence")
            self.unseen = self._held_out.digest()
            if (index := self._held_out.repeats(self._sequences)) is not None:
                raise UserError(
                    "a held-out sequence is one of the calibration sequences",
                    given=f"held_out, sequence {index}",
                    allowed="sequences that the calibration has not seen",
                )

    def describe(self) -> dict[str, Any]:
        """Without ``tokens`` if it is empty; held-out sequences change no statistics."""
        described = super().describe()
        return {k: v for k, v in described.items() if k != "unseen" and (k != "tokens" or v)}

    def held_out_inputs(self) -> dict[str, Any]:
        """Their digest."""
        return {"held_out_sequences": self.unseen}

    def splits(self) -> list[tuple[str, str]]:
        """Empty: no data set is read."""
        return []

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """The sequences as token ids; texts are tokenized without a chat template."""
        return self._sequences.token_ids(tokenizer)

    def held_out(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int, count: int
    ) -> list[Tensor]:
        """Those that were given to be held out.

        Raises:
            UserError: If there are none, or another number of them.
        """
        if self._held_out is None:
            raise UserError(
                f"healing needs {count} sequences that the calibration has not seen",
                given=f"calibration: {self.samples} sequences, all of them calibrated on",
                allowed=f"held_out=[...], {count} further sequences",
                fix="held_out=calibration[-N:] with calibration=calibration[:-N], for example",
            )
        found = len(self._held_out.sequences)
        if found != count:
            raise UserError(
                "there are more or fewer held-out sequences than the healing asks for",
                given=f"held_out: {found} sequences",
                allowed=f"{count}, as held_out of the group heal says",
                fix=f'overrides=["heal.held_out={found}"]',
            )
        return self._held_out.token_ids(tokenizer)
