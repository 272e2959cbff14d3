"""The interface of healing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.component import Component
from flrc.core.demand import Demand

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.healing.healing_input import HealingInput
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class Healing(Component, ABC):
    """Tunes the factors of a compressed model, so that it computes what the dense model computes.

    The ranks stay. Tuned factors are good at the plans that they were tuned for: their prefixes at
    other ranks are not the best factors of these ranks any more.
    """

    HEALS: ClassVar[bool] = True
    """False only for ``none``."""

    @property
    @abstractmethod
    def unseen(self) -> int:
        """Calibration sequences that are drawn in addition, to choose the state by."""

    @abstractmethod
    def demand(self, shape: ModelShape, lengths: Sequence[int], kept: float, fits: bool) -> Demand:
        """What the tuning takes, the dense model's targets included.

        Args:
            shape: Of the model.
            lengths: Tokens of each calibration sequence.
            kept: Share of the targets' weights that is used.
            fits: Whether the graph of a whole sequence is kept for the backward pass; else the
                activations of a block are computed again.
        """

    def check_model(self, model: PreTrainedModel, sequences: Sequence[Tensor]) -> None:
        """Raise UserError if it cannot heal this model, on a few tokens, before calibration.

        Args:
            model: Dense, in evaluation mode.
            sequences: The calibration token ids.
        """

    @abstractmethod
    def heal(self, given: HealingInput) -> dict[str, Any]:
        """Replace the layers of a dense model, and tune them.

        The model is dense at first and compressed at the end. An interrupted call continues where
        it was, and ends with the same numbers at an equal number of threads.

        Returns:
            How it went, by kind of tuning; plain JSON values.
        """
