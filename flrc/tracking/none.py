"""No tracker: records stay on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flrc.records.record import Record
from flrc.tracking.base import Tracker


@dataclass
class NoTracker(Tracker):
    """Sends nothing."""

    name: str = "none"

    def publish(self, record: Record, folder: Path) -> None:
        """Do nothing."""
