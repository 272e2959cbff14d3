"""What a calibration is: the token sequences for statistics and gradients."""

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
        """Checks the number and the length of sequences."""
        self.require(self.samples >= 1, "samples", "an integer of at least 1")
        self.require(self.length >= 2, "length", "an integer of at least 2")

    @abstractmethod
    def splits(self) -> list[tuple[str, str]]:
        """The (dataset, split) pairs that are read."""

    @abstractmethod
    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """Token ids ``(tokens,)`` of each sequence; deterministic in the arguments.

        Raises:
            UserError: If the data has fewer sequences than requested (says how many it has).
        """

    @abstractmethod
    def held_out(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int, count: int
    ) -> list[Tensor]:
        """``count`` further sequences of the same kinds, none of them in :meth:`sequences`.

        Raises:
            UserError: If the data has no more of them.
        """

    def held_out_inputs(self) -> dict[str, Any]:
        """What determines :meth:`held_out` besides :meth:`inputs` and its arguments."""
        return {}

    def check_data(self, data: DataSource) -> None:
        """Raise UserError if a dataset is missing."""
        for dataset, split in self.splits():
            data.check_available(dataset, split)

    def inputs(self, data: DataSource) -> dict[str, Any]:
        """What determines the sequences besides tokenizer and seed: for ids and cache keys."""
        fingerprints = {f"{d}/{s}": data.fingerprint(d, s) for d, s in self.splits()}
        return {**self.describe(), "data": fingerprints}
