"""Calibration on running text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flrc.calibration.base import Calibration
from flrc.data.dataset_catalog import choose_kind

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource


@dataclass
class Text(Calibration):
    """Non-overlapping windows of text, drawn without replacement, data sets in equal parts.

    Source: the set-up of SVD-LLM and FLRC (appendix F), WikiText-2 train.
    Differs: windows are taken from one token stream and never overlap; the published code draws
        character offsets, so that windows may overlap, and skips those that are too short.

    Attributes:
        datasets: Text data sets, read from their train split; ``samples`` is divided evenly among
            them.
    """

    name: str = "text"
    datasets: list[str] = field(default_factory=lambda: ["wikitext2"])

    def check(self) -> None:
        """Every data set gets at least one sample."""
        super().check()
        choose_kind("calibration.datasets", self.datasets, "text")
        self.require(
            0 < len(self.datasets) <= self.samples,
            "datasets",
            f"1 to {self.samples} data sets (samples)",
        )

    def text_splits(self) -> list[tuple[str, str]]:
        """The train split of each text data set."""
        return [(dataset, "train") for dataset in self.datasets]

    def splits(self) -> list[tuple[str, str]]:
        """Text only."""
        return self.text_splits()

    def text_sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """``samples`` sequences of ``length`` tokens."""
        from flrc.data.text import sample_windows, token_stream

        share, extra = divmod(self.samples, len(self.datasets))
        chosen: list[Tensor] = []
        for index, (dataset, split) in enumerate(self.text_splits()):
            stream = token_stream(data.rows(dataset, split), tokenizer)
            chosen += list(sample_windows(stream, self.length, share + (index < extra), seed))
        return chosen

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """The text sequences."""
        return self.text_sequences(data, tokenizer, seed)
