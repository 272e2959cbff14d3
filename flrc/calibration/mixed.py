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
"""Longer dialogues are cut at their end; none of DialogSum's is that long."""


@dataclass
class Mixed(Text):
    """Text plus dialogues in the model's chat template, their reference summaries as replies.

    Calibration on encyclopaedia text alone makes a small chat model forget the chat format, and
    every compressed reply collapses; generation studies use this one.

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
        """Ranges."""
        super().check()
        choose_kind("calibration.dialogue_dataset", [self.dialogue_dataset], "summarization")
        self.require(self.dialogues >= 0, "dialogues", "a whole number from 0 on")

    def splits(self) -> list[tuple[str, str]]:
        """Text from the train splits, dialogues, where any are asked for, from validation."""
        dialogues = [(self.dialogue_dataset, "validation")] if self.dialogues else []
        return [*self.text_splits(), *dialogues]

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """Text sequences first, then the dialogues, which have lengths of their own."""
        import random

        import torch

        from flrc.data.summarization_pairs import chat_example, read_pairs

        chosen = self.text_sequences(data, tokenizer, seed)
        if not self.dialogues:
            return chosen
        found = read_pairs(data, self.dialogue_dataset, "validation", None)
        if len(found) < self.dialogues:
            raise UserError(
                f"not enough calibration dialogues in {self.dialogue_dataset}/validation",
                given=f"calibration.dialogues={self.dialogues}",
                allowed=f"at most {len(found)}",
                fix=f"calibration.dialogues={len(found)}",
            )
        for pair in random.Random(seed).sample(found, self.dialogues):
            ids = chat_example(pair, tokenizer, MAX_PROMPT_TOKENS).ids
            chosen.append(torch.tensor(ids, dtype=torch.long))
        return chosen
