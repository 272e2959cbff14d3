"""Where finished records are shown besides the disk; a sink, never a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.core.component import Component, discover
from flrc.results.records.record import Record

if TYPE_CHECKING:
    from flrc.results.studies.study import Study


@dataclass
class Tracker(Component, ABC):
    """Sends the record of a finished run somewhere. Never part of a run's identity."""

    @abstractmethod
    def publish(self, record: Record, folder: Path) -> bool:
        """Send one record; a second call with the same record changes nothing.

        A failure of the service is logged as a warning and never raised: the record on disk is
        what counts, and ``python -m flrc.tracking publish`` sends it again.

        Returns:
            Whether the service has it; False after a failure.
        """

    @abstractmethod
    def publish_study(self, study: Study, scale: str, folder: Path) -> bool:
        """Send a study's tables and plots from ``folder``, as :meth:`publish` sends a record.

        Returns:
            Whether the service has all of it; False after a failure.
        """

    @abstractmethod
    def places(self, folders: Sequence[Path]) -> list[str]:
        """Say where to look at what was sent from these folders, of runs or of studies.

        Returns:
            Lines to print as they are: addresses and commands can be copied. None if nothing was
            sent.
        """


def from_plain(values: dict[str, Any]) -> Tracker:
    """The tracker called ``name`` with these fields, as ``dataclasses.asdict`` returns them."""
    tracker = discover("flrc.tracking", Tracker)[values["name"]](**values)
    assert isinstance(tracker, Tracker)
    return tracker
