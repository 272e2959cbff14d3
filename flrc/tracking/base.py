"""Where finished records are shown besides the disk; a sink, never a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from flrc.component import Component
from flrc.records.record import Record


@dataclass
class Tracker(Component, ABC):
    """Sends the record of a finished run somewhere. Never part of a run's identity."""

    @abstractmethod
    def publish(self, record: Record, folder: Path) -> None:
        """Send one record; a second call with the same record changes nothing.

        A failure of the other side is logged as a warning and never raised: the record on disk is
        what counts, and ``python -m flrc.tracking publish`` sends it again.

        Args:
            record: The run's record.
            folder: The run's folder, ``<runs>/<model>/<run>``.
        """
