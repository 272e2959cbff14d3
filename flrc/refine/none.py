"""No refinement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.refine.base import Refinement

if TYPE_CHECKING:
    from flrc.decomposition.factors import Factors
    from flrc.decomposition.statistics import Statistics
    from flrc.plans.rank_plan import RankPlan


@dataclass
class NoRefinement(Refinement):
    """Factors stay prefixes of what the decomposition returned."""

    REFINES: ClassVar[bool] = False

    name: str = "none"

    def refine(
        self, statistics: Statistics, plan: RankPlan
    ) -> Iterator[tuple[int, dict[str, Factors]]]:
        """Yields nothing."""
        yield from ()
