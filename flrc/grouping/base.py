"""What a grouping is: which layers are decomposed together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from flrc.core.component import Component
from flrc.plans.target import Target


@dataclass
class Grouping(Component, ABC):
    """Joins layers into targets that are decomposed and allocated as one."""

    @abstractmethod
    def targets(self, layers: Sequence[Target]) -> list[Target]:
        """The targets, in the order of their first layers; each layer belongs to exactly one."""
