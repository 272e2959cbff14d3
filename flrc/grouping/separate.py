"""Every layer by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.grouping.base import Grouping

if TYPE_CHECKING:
    from flrc.models.targets import Target


@dataclass
class Separate(Grouping):
    """One unit a layer."""

    name: str = "separate"

    def units(self, targets: list[Target]) -> list[list[Target]]:
        """Singletons."""
        return [[target] for target in targets]
