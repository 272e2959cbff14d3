"""Refined factors in the stage cache."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flrc.core.cache import Entry
from flrc.decomposition.factor_store import FactorNotes, StoredFactors, finish_factors, store_block
from flrc.decomposition.statistics import Statistics
from flrc.plans.rank_plan import RankPlan
from flrc.refine.base import Refinement


@dataclass(frozen=True)
class RefinedFactors(StoredFactors):
    """Factors that fit one plan: they cannot be sliced."""

    def factors(self, name: str, rank: int) -> tuple[Tensor, Tensor]:
        """``left_t (rank, d_out)`` and ``right (rank, d_in)``.

        Raises:
            ValueError: If they were refined for another rank.
        """
        refined = len(self.spectrum(name))
        if refined != rank:
            raise ValueError(f"{name} was refined for rank {refined}, not for {rank}")
        return super().factors(name, rank)


def refined_factors(
    refinement: Refinement, statistics: Statistics, plan: RankPlan, entry: Entry
) -> RefinedFactors:
    """Refine all factors, block by block, unless the entry holds them already.

    The caller holds the cache entries.

    Raises:
        ValueError: If factors are not finite.
    """
    dense = statistics.dense
    if not entry.done:
        notes = FactorNotes()
        for block, factors in refinement.refine(statistics, plan):
            notes.add(store_block(entry, block, factors, dense.model.dtype))
            factors.clear()  # else it is held until the next block's are made
        finish_factors(entry, notes)
    return RefinedFactors(entry, {target.name: target for target in dense.targets})
