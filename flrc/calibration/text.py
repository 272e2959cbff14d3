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
        return self._windows(data, tokenizer, seed, 0, self.samples)

    def held_out(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int, count: int
    ) -> list[Tensor]:
        """The windows that a larger draw would have added."""
        return self._windows(data, tokenizer, seed, self.samples, count)

    def _windows(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int, used: int, count: int
    ) -> list[Tensor]:
        """``count`` windows after the first ``used`` of the draw, both divided among datasets."""
        from flrc.data.text import sample_windows, token_stream

        chosen: list[Tensor] = []
        shares = zip(self._shares(used), self._shares(count), strict=True)
        for dataset, (before, more) in zip(self.datasets, shares, strict=True):
            if more:
                stream = token_stream(data.rows(dataset, "train"), tokenizer)
                chosen += list(sample_windows(stream, self.length, before + more, seed))[before:]
        return chosen

    def _shares(self, samples: int) -> list[int]:
        share, extra = divmod(samples, len(self.datasets))
        return [share + (index < extra) for index in range(len(self.datasets))]
