"""No search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flrc.schedule.base import Schedule
from flrc.search.base import Compression, ScheduleSearch, SearchResult


@dataclass
class NoSearch(ScheduleSearch):
    """Uses the schedule's own phases; their average is nominal: it assumes the longest replies."""

    SEARCHES: ClassVar[bool] = False

    name: str = "none"

    def search(self, schedule: Schedule, rate: float, compression: Compression) -> SearchResult:
        """The schedule's own phases."""
        return SearchResult(schedule.phases(rate))
