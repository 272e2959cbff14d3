"""What a calibration is: the token sequences that statistics and gradients are taken on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource


@dataclass
class Calibration(Component, ABC):
    """Draws calibration sequences.

    Attributes:
        samples: Number of text sequences.
        length: Tokens per text sequence.
    """

    samples: int = 32
    length: int = 512

    SHORTER: ClassVar[str] = "calibration.length"
    """The override that makes sequences shorter."""

    def check(self) -> None:
        """Ranges."""
        self.require(self.samples >= 1, "samples", "a whole number from 1 on")
        self.require(self.length >= 2, "length", "a whole number from 2 on")

    @abstractmethod
    def splits(self) -> list[tuple[str, str]]:
        """The (data set, split) pairs that are read."""

    @abstractmethod
    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """Token ids ``(tokens,)`` of each sequence; the same for the same arguments.

        Raises:
            UserError: If the data holds fewer sequences than asked for (says how many there are).
        """

    def check_data(self, data: DataSource) -> None:
        """Raise UserError if a data set is not there."""
        for dataset, split in self.splits():
            data.check_available(dataset, split)

    def inputs(self, data: DataSource) -> dict[str, Any]:
        """All that decides the sequences besides tokenizer and seed: for ids and cache keys."""
        fingerprints = {f"{d}/{s}": data.fingerprint(d, s) for d, s in self.splits()}
        return {**self.describe(), "data": fingerprints}
