"""Whether a run is done, and which measurements a command asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flrc.core import jsonfile
from flrc.errors import UserError
from flrc.models.checkpoints.manifest import read_manifest
from flrc.running.evaluation_files import PartFile

if TYPE_CHECKING:
    from flrc.config import RunConfig
    from flrc.results.records.measurement import Measurement
    from flrc.results.records.record import Record
    from flrc.results.records.store import RunFolder

log = logging.getLogger(__name__)


def finished(config: RunConfig, folder: RunFolder) -> Record | None:
    """The record, if every requested evaluation is on disk with exactly the current settings.

    That includes what is taken over several parts: earlier commands may have measured each alone.
    What the record has as ``other_settings`` does not count: its configuration, command and times
    are those of the latest command, which the one that asks for the others again becomes.

    A run that saves its model is not done while the checkpoint is missing or damaged, nor one that
    follows its schedule while that has not been searched.

    Raises:
        UserError: If a newer version wrote it, even if it would be computed again.
    """
    record = folder.read_record()
    if config.force or record is None or record.run["status"] != "ok":
        return None
    if config.model.save and config.compresses and not _saved(folder):
        return None
    if config.searches and config.reads_phases and record.search_deferred:
        return None
    present = [jsonfile.canonical(vars(m)) for m in record.measurements]
    known = {m.key for m in record.measurements}
    for evaluation in config.evaluation.values():
        measured: list[Measurement] = []
        for part in evaluation.parts():
            outcome = PartFile(folder, evaluation, part, config.data).load()
            if outcome is None:
                return None
            if any(jsonfile.canonical(vars(m)) not in present for m in outcome.measurements):
                return None
            measured += outcome.measurements
        if any(m.key not in known for m in evaluation.summarise(measured)):
            return None
    log.info("done already, nothing computed: %s", folder.path)
    return record


def _saved(folder: RunFolder) -> bool:
    """Whether the run's checkpoint exists with every file as it was written."""
    if not folder.model.exists():
        return False
    try:
        read_manifest(folder.model)
    except UserError as error:
        log.warning("the model is saved again: %s", error.problem)
        return False
    return True


def requested(config: RunConfig, folder: RunFolder) -> list[Measurement]:
    """The measurements that this configuration asks for (the record may hold more)."""
    asked: list[Measurement] = []
    for evaluation in config.evaluation.values():
        measured: list[Measurement] = []
        for part in evaluation.parts():
            outcome = PartFile(folder, evaluation, part, config.data).load()
            measured += [] if outcome is None else outcome.measurements
        asked += [*measured, *evaluation.summarise(measured)]
    return asked
