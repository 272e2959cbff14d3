"""Every layer is a target of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flrc.grouping.base import Grouping
from flrc.plans.target import Target


@dataclass
class Separate(Grouping):
    """One target per layer."""

    name: str = "separate"

    def targets(self, layers: Sequence[Target]) -> list[Target]:
        """The layers as they are."""
        return list(layers)
