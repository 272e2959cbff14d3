"""The interface of a refinement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from flrc.core.component import Component

if TYPE_CHECKING:
    from flrc.decomposition.factors import Factors
    from flrc.decomposition.statistics import Statistics
    from flrc.plans.rank_plan import RankPlan

FactorsByBlock: TypeAlias = "Iterator[tuple[int, dict[str, Factors]]]"


@dataclass
class Refinement(Component, ABC):
    """Adapts factors to the plan that uses them; refined factors cannot be sliced."""

    REFINES: ClassVar[bool] = True
    """False only for ``none``: the factors stay prefixes of the decomposition's."""

    @abstractmethod
    def refine(self, statistics: Statistics, plan: RankPlan) -> FactorsByBlock:
        """Float64 factors of exactly the planned ranks, for every target that the plan factors.

        The model that the statistics are of is dense again when the refinement ends.

        Yields:
            Block index and the factors by target name.
        """
