"""No search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.search.base import Compression, ScheduleSearch, SearchResult

if TYPE_CHECKING:
    from flrc.schedule.base import Schedule


@dataclass
class NoSearch(ScheduleSearch):
    """The schedule's own phases; their average is nominal, over replies of the longest length."""

    SEARCHES: ClassVar[bool] = False

    name: str = "none"

    def search(self, schedule: Schedule, rate: float, compression: Compression) -> SearchResult:
        """The phases as given."""
        return SearchResult(schedule.phases(rate))
