"""Increasing ranks: the control of the paper's Table 4."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from flrc.schedule.stepwise import Stepwise


@dataclass
class Increasing(Stepwise):
    """Increased-rank decoding (FLRC appendix D): ``progressive`` reversed, at the same average."""

    DIRECTION: ClassVar[int] = -1

    name: str = "increasing"
    shares: list[float] = field(default_factory=lambda: [0.5, 0.5])
    offsets: list[float] = field(default_factory=lambda: [0.1, -0.1])
