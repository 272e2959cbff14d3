"""No tracker: records stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.results.records.record import Record
from flrc.tracking.base import Tracker

if TYPE_CHECKING:
    from flrc.results.studies.study import Study


@dataclass
class NoTracker(Tracker):
    """Sends nothing."""

    name: str = "none"

    def publish(self, record: Record, folder: Path) -> bool:
        """Do nothing: there is nothing to send."""
        return True

    def publish_study(self, study: Study, scale: str, folder: Path) -> bool:
        """Do nothing: there is nothing to send."""
        return True

    def places(self, folders: Sequence[Path]) -> list[str]:
        """Nothing: records are on disk only."""
        return []
