"""What a grouping is: which layers are decomposed together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.component import Component

if TYPE_CHECKING:
    from flrc.models.targets import Target


@dataclass
class Grouping(Component, ABC):
    """Partition of the targets into units that are decomposed and allocated as one."""

    @abstractmethod
    def units(self, targets: list[Target]) -> list[list[Target]]:
        """The units, in the order of the targets; every target is in exactly one."""
