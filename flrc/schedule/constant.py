"""One rate for every forward step."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.plans.phase import Phase
from flrc.schedule.base import Schedule


@dataclass
class Constant(Schedule):
    """Static-rank decoding (FLRC appendix D)."""

    name: str = "constant"

    def phases(self, rate: float) -> list[Phase]:
        """A single phase."""
        return [Phase(0.0, rate)]
