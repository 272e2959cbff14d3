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
    """Non-overlapping windows of text, drawn without replacement, in equal parts from all datasets.

    Source: the set-up of SVD-LLM and FLRC (appendix F), WikiText-2 train.
    Differs: the windows tile one token stream and never overlap; the published code draws character
        offsets, so its samples may overlap, and skips those that are too short.

    Attributes:
        datasets: Text data sets, read from their train split; ``samples`` is divided evenly among
            them.
    """

    name: str = "text"
    datasets: list[str] = field(default_factory=lambda: ["wikitext2"])

    def check(self) -> None:
        """Also checks that every dataset exists and contributes at least one sample."""
        super().check()
        choose_kind("calibration.datasets", self.datasets, "text")
        allowed = f"1 to {self.samples} datasets, no more than samples"
        self.require(0 < len(self.datasets) <= self.samples, "datasets", allowed)

    def splits(self) -> list[tuple[str, str]]:
        """The train split of each dataset."""
        return [(dataset, "train") for dataset in self.datasets]

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """``samples`` sequences of ``length`` tokens."""
        from flrc.data.text import sample_windows, token_stream

        share, extra = divmod(self.samples, len(self.datasets))
        chosen: list[Tensor] = []
        for index, dataset in enumerate(self.datasets):
            stream = token_stream(data.rows(dataset, "train"), tokenizer)
            chosen += list(sample_windows(stream, self.length, share + (index < extra), seed))
        return chosen
