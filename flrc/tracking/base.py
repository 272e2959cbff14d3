"""Where finished records are shown besides the disk; a sink, never a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    def publish(self, record: Record, folder: Path) -> None:
        """Send one record; a second call with the same record changes nothing.

        A failure of the other side is logged as a warning and never raised: the record on disk is
        what counts, and ``python -m flrc.tracking publish`` sends it again.

        Args:
            record: The run's record.
            folder: The run's folder, ``<runs>/<model>/<run>``.
        """

    @abstractmethod
    def publish_study(self, study: Study, scale: str, folder: Path) -> None:
        """Send a study's rendered tables and plots; as for a record, twice changes nothing.

        A failure is logged as a warning and never raised.

        Args:
            study: What was rendered.
            scale: Its scale.
            folder: Where it was rendered, ``<runs>/studies/<study>-<scale>``.
        """


def from_plain(values: dict[str, Any]) -> Tracker:
    """The tracker with these fields, as ``dataclasses.asdict`` gives them: ``name`` says which."""
    found = discover("flrc.tracking", Tracker)[values["name"]](**values)
    assert isinstance(found, Tracker)
    return found
