"""No healing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.demand import Demand
from flrc.healing.base import Healing

if TYPE_CHECKING:
    from flrc.healing.healing_input import HealingInput
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class NoHealing(Healing):
    """The factors stay as they were decomposed or refined."""

    HEALS: ClassVar[bool] = False

    name: str = "none"

    @property
    def unseen(self) -> int:
        """None."""
        return 0

    def demand(self, shape: ModelShape, lengths: Sequence[int], kept: float, fits: bool) -> Demand:
        """Nothing."""
        return Demand()

    def heal(self, given: HealingInput) -> dict[str, Any]:
        """Only replaces the layers."""
        given.replace(given.dense.targets)
        return {}
