"""No refinement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.plans.rank_plan import RankPlan
from flrc.refine.base import FactorsByBlock, Refinement

if TYPE_CHECKING:
    from flrc.decomposition.statistics import Statistics


@dataclass
class NoRefinement(Refinement):
    """Factors stay prefixes of what the decomposition returned."""

    REFINES: ClassVar[bool] = False

    name: str = "none"

    def refine(self, statistics: Statistics, plan: RankPlan) -> FactorsByBlock:
        """Yields nothing."""
        yield from ()
