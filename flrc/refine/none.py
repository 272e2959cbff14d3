"""No refinement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.refine.base import Decided, Refinement

if TYPE_CHECKING:
    from flrc.decomposition.factors import Factors


@dataclass
class NoRefinement(Refinement):
    """Factors are prefixes of what the decomposition returned."""

    REFINES: ClassVar[bool] = False

    name: str = "none"

    def refine(self, decided: Decided) -> Iterator[tuple[int, dict[str, Factors]]]:
        """Nothing."""
        yield from ()
