"""The interface of a refinement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from flrc.core.component import Component
from flrc.core.demand import Demand, total

if TYPE_CHECKING:
    from flrc.decomposition.base import Decomposition
    from flrc.decomposition.factors import Factors
    from flrc.decomposition.statistics import Statistics
    from flrc.models.anatomy.model_shape import ModelShape
    from flrc.plans.rank_plan import RankPlan

FactorsByBlock: TypeAlias = "Iterator[tuple[int, dict[str, Factors]]]"


@dataclass
class Refinement(Component, ABC):
    """Adapts factors to the plan that uses them; refined factors cannot be sliced."""

    REFINES: ClassVar[bool] = True
    """False only for ``none``: the factors stay prefixes of the decomposition's."""

    def demand(
        self, shape: ModelShape, lengths: Sequence[int], decomposition: Decomposition
    ) -> Demand:
        """What :meth:`refine` takes, besides the statistics that it reads again.

        The default decomposes every target once more.

        Args:
            shape: Of the model.
            lengths: Tokens of each calibration sequence.
            decomposition: How targets are decomposed.
        """
        tokens = sum(lengths)
        return total(decomposition.demand(t.d_out, t.d_in, tokens) for t in shape.targets)

    @abstractmethod
    def refine(self, statistics: Statistics, plan: RankPlan) -> FactorsByBlock:
        """Float64 factors of exactly the planned ranks, for every target that the plan factors.

        The model that the statistics are of is dense again when the refinement ends.

        Yields:
            Block index and the factors by target name.
        """
