"""Healing block by block, and then end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flrc.core.demand import Demand
from flrc.healing.base import Healing
from flrc.healing.blockwise import Blockwise
from flrc.healing.distilled import Distilled

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.healing.healing_input import HealingInput
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class Both(Healing):
    """The blocks first; then all factors together.

    Attributes:
        blockwise: Settings of the first part.
        distilled: Settings of the second part; both use its held-out sequences.
    """

    name: str = "both"
    blockwise: Blockwise = field(default_factory=Blockwise)
    distilled: Distilled = field(default_factory=Distilled)

    @property
    def unseen(self) -> int:
        """The larger number of the two."""
        return max(self.blockwise.unseen, self.distilled.unseen)

    def needs(self) -> tuple[str, ...]:
        """Those of both parts."""
        return tuple(dict.fromkeys((*self.blockwise.needs(), *self.distilled.needs())))

    def describe(self) -> dict[str, Any]:
        """Both parts with their versions."""
        parts = {"blockwise": self.blockwise.describe(), "distilled": self.distilled.describe()}
        return {**super().describe(), **parts}

    def demand(self, shape: ModelShape, lengths: Sequence[int], kept: float, fits: bool) -> Demand:
        """The sum of both; the last dense states wait for the second part."""
        tokens = sum([*lengths, *lengths[: self.unseen]])
        blocks = self.blockwise.demand(shape, lengths, kept, fits)
        waiting = blocks.holding(tokens * shape.width * shape.itemsize)
        return waiting + self.distilled.demand(shape, lengths, kept, fits)

    def check_model(self, model: PreTrainedModel, sequences: Sequence[Tensor]) -> None:
        """What the second part needs."""
        self.distilled.check_model(model, sequences)

    def heal(self, given: HealingInput) -> dict[str, Any]:
        """The dense states are taken before the first block is replaced."""
        from flrc.healing.healing_input import distilled

        lessons = given.lessons(self.distilled)
        blocks = self.blockwise.heal(given)
        return {**blocks, "distilled": distilled(given, self.distilled, lessons).to_json()}
