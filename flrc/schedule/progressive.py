"""Progressive low-rank decoding: ranks that shrink while text is generated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from flrc.schedule.stepwise import Stepwise


@dataclass
class Progressive(Stepwise):
    """Many ranks for the prefill and the first tokens, fewer later.

    Source: FLRC (arXiv 2510.09332), eq. 3 and appendix C ("decreased rank decoding").
    Differs: the phases are given here; with ``search=halving`` they are searched on a calibration
        split, as in the paper.
    """

    DIRECTION: ClassVar[int] = 1

    name: str = "progressive"
    shares: list[float] = field(default_factory=lambda: [0.5, 0.5])
    offsets: list[float] = field(default_factory=lambda: [-0.1, 0.1])
