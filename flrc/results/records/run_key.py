"""What tells runs apart in tables and pages."""

from __future__ import annotations

from typing import NamedTuple

from flrc.results.records.record import Record
from flrc.results.records.store import model_name


class RunKey(NamedTuple):
    """The label of a run's model, and the run's id; a folder of runs has one folder for each.

    The id alone says what is computed: equal weights under two labels are two runs with one id.
    """

    model: str
    id: str


def key_of(record: Record) -> RunKey:
    """The key of a record's run."""
    return RunKey(model_name(record), str(record.run["id"]))
