"""Refined factors in the stage cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.decomposition.factor_store import Noted, StoredFactors, finish_factors, store_block

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.core.cache import Entry
    from flrc.refine.base import Decided, Refinement


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


def refined_factors(refinement: Refinement, decided: Decided, entry: Entry) -> RefinedFactors:
    """Refine all factors, block by block, unless the entry holds them already.

    The caller holds the entry.

    Raises:
        ValueError: If factors are not finite.
    """
    if not entry.done:
        noted = Noted()
        for block, found in refinement.refine(decided):
            noted.add(store_block(entry, block, found, decided.model.dtype))
            found.clear()  # else it is held until the next block's are made
        finish_factors(entry, noted)
    return RefinedFactors(entry, {target.name: target for target in decided.targets})
