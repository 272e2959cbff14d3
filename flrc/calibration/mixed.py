"""Calibration on running text and on chat-formatted dialogues with their summaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.calibration.text import Text
from flrc.data.dataset_catalog import choose_kind
from flrc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource

MAX_PROMPT_TOKENS = 1024
"""Longer dialogues are truncated at their end; none of DialogSum's is that long."""


@dataclass
class Mixed(Text):
    """Text plus dialogues in the model's chat template, with their reference summaries as replies.

    Calibrated on encyclopaedic text only, a small chat model forgets the chat format and its
    replies collapse; generation studies use this calibration.

    Attributes:
        dialogues: Number of chat-formatted dialogues with their summaries, in addition to the text.
        dialogue_dataset: Summarization data set, read from its validation split (never the test
            split).
    """

    SHORTER: ClassVar[str] = (
        "calibration.length, or calibration.dialogues=0: a dialogue keeps up to "
        f"{MAX_PROMPT_TOKENS} tokens, and its summary"
    )

    name: str = "mixed"
    samples: int = 4
    dialogues: int = 16
    dialogue_dataset: str = "dialogsum"

    def check(self) -> None:
        """Also checks the dialogues."""
        super().check()
        choose_kind("calibration.dialogue_dataset", [self.dialogue_dataset], "summarization")
        self.require(self.dialogues >= 0, "dialogues", "an integer of at least 0")

    def splits(self) -> list[tuple[str, str]]:
        """The train splits of the text and, if there are dialogues, their validation split."""
        dialogues = [(self.dialogue_dataset, "validation")] if self.dialogues else []
        return [*super().splits(), *dialogues]

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """The text sequences, then the dialogues, each with its own length."""
        return super().sequences(data, tokenizer, seed) + self._dialogues(data, tokenizer, seed, 0)

    def held_out(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int, count: int
    ) -> list[Tensor]:
        """Half of them dialogues, if there are any; else all text."""
        dialogues = count // 2 if self.dialogues else 0
        text = super().held_out(data, tokenizer, seed, count - dialogues)
        return text + (self._dialogues(data, tokenizer, seed, dialogues) if dialogues else [])

    def _dialogues(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int, more: int
    ) -> list[Tensor]:
        """The dialogues of the calibration or, if that is not 0, ``more`` others."""
        import random

        import torch

        from flrc.data.summarization_pairs import chat_example, read_pairs

        if not self.dialogues:
            return []
        available = read_pairs(data, self.dialogue_dataset, "validation", None)
        most = len(available) - more
        if most < self.dialogues:
            held_out = f", and {more} held out" if more else ""
            raise UserError(
                f"not enough calibration dialogues in {self.dialogue_dataset}/validation",
                given=f"calibration.dialogues={self.dialogues}{held_out}",
                allowed=f"at most {most}",
                fix=f"calibration.dialogues={most}",
            )
        pairs = random.Random(seed).sample(available, self.dialogues)
        if more:
            used = {pair.id for pair in pairs}
            others = [pair for pair in available if pair.id not in used]
            pairs = random.Random(seed).sample(others, more)
        encoded = (chat_example(pair, tokenizer, MAX_PROMPT_TOKENS).ids for pair in pairs)
        return [torch.tensor(ids, dtype=torch.long) for ids in encoded]
