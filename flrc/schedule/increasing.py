"""The control of the paper's Table 4: few ranks first, more later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from flrc.schedule.progressive import Stepwise


@dataclass
class Increasing(Stepwise):
    """Increased-rank decoding (FLRC appendix D): ``progressive`` reversed, at the same average."""

    DIRECTION: ClassVar[int] = -1

    name: str = "increasing"
    shares: list[float] = field(default_factory=lambda: [0.5, 0.5])
    offsets: list[float] = field(default_factory=lambda: [0.1, -0.1])

    def check(self) -> None:
        """Offsets never rise: the rank budget never shrinks."""
        super().check()
        self.require(
            self.offsets == sorted(self.offsets, reverse=True), "offsets", "non-increasing numbers"
        )
