"""What a refinement is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.calibration.statistics import BlockStatistics
    from flrc.decomposition.base import Decomposition
    from flrc.decomposition.factors import Factors
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.target import Target


@dataclass(frozen=True)
class Decided:
    """Everything about a compression that is decided before its factors are refined.

    Attributes:
        model: The dense model; it is dense again when the refinement ends.
        targets: The layers, or groups of layers, in the order of the forward pass.
        plan: The ranks. One plan: refined factors fit the ranks they were made for.
        decomposition: How a weight becomes factors.
        sequences: Calibration sequences.
        statistics: What the decomposition reads, measured on the dense model, block by block.
    """

    model: PreTrainedModel
    targets: Sequence[Target]
    plan: RankPlan
    decomposition: Decomposition
    sequences: Sequence[Tensor]
    statistics: Iterable[BlockStatistics]


@dataclass
class Refinement(Component, ABC):
    """Adapts factors to the plan they are used in; what it returns cannot be sliced any more."""

    REFINES: ClassVar[bool] = True
    """False only for ``none``: the factors stay prefixes of the decomposition's."""

    @abstractmethod
    def refine(self, decided: Decided) -> Iterator[tuple[int, dict[str, Factors]]]:
        """Block by block, factors of the planned rank for every target that the plan factors.

        Args:
            decided: The compression so far.

        Yields:
            Block index and the factors by target name, float64, with exactly the planned ranks.
        """
