"""The job log of a sweep: one line for each finished job, whichever process or machine ran it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flrc.errors import DISK_FULL, UserError, explained
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder
from flrc.results.tables.facts import Facts

log = logging.getLogger(__name__)

JOB_LOG = "FLRC_SWEEP_LEDGER"
"""Environment variable with the path of the job log, read by every process of the sweep."""
NEEDED = 16384
"""Free bytes that a sweep needs to start: for the job log and the files that Hydra writes."""


@dataclass(frozen=True)
class StudyJob:
    """What a job is within its study; ``place`` is the run's folder below the folder of runs."""

    study: str
    scale: str
    run: str
    place: str
    facts: Facts
    seed: int
    tracker: dict[str, Any]


@dataclass(frozen=True)
class JobEntry:
    """How one job ended.

    Attributes:
        status: ``ok`` or ``failed``; in a dry run ``done`` or ``would run``.
        folder: Folder of the run; None if the job failed before it had one.
        error: Why the job failed.
        measurements: Names of the measurements that the job was asked for.
        overrides: The job's overrides, quoted for a shell.
        runs: Folder of all runs; None if the configuration is invalid.
        study: Its place in a study; None outside of studies.
        mistake: Whether it failed because of a user's mistake: the same command fails again.
        tracker: The tracker that has the run's record; empty if none has.
        estimate: Of a dry run: what the job would take, as a
            :class:`~flrc.running.dry_run.RunEstimate`.
        keys: Name and settings of each of ``measurements``, as ``Measurement.key`` has them.
    """

    status: str
    folder: str | None = None
    error: str | None = None
    measurements: list[str] = field(default_factory=list)
    overrides: str = ""
    runs: str | None = None
    study: StudyJob | None = None
    mistake: bool = False
    tracker: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] | None = None
    keys: list[str] = field(default_factory=list)

    def to_line(self) -> str:
        """The entry as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> JobEntry:
        """Read a line back; raises ValueError if it is truncated."""
        values = json.loads(line)
        study = values.pop("study")
        return cls(**values, study=None if study is None else StudyJob(**study))


def runs_of(entries: Sequence[JobEntry]) -> list[tuple[RunFolder, Record]]:
    """The runs of these jobs, each once, with their records."""
    folders = dict.fromkeys(Path(entry.folder) for entry in entries if entry.folder)
    found = [(run := RunFolder(folder), run.read_record()) for folder in folders]
    return [(run, record) for run, record in found if record is not None]


class JobLog:
    """The entries of one sweep, in a file in the folder of runs that all its jobs can reach.

    Args:
        path: The file; None until :meth:`create`. Entries added earlier are kept in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.sweep = f".sweep-{uuid.uuid4().hex[:12]}" if path is None else path.stem
        """The sweep's name, the same in all its processes."""
        self._new_folders: list[Path] = []
        self._temporary: Path | None = None
        self._unwritten: list[JobEntry] = []

    @classmethod
    def of_new_sweep(cls) -> JobLog:
        """The job log of a sweep that this process starts now."""
        global _own_log
        _own_log = cls()
        return _own_log

    @staticmethod
    def of_own_sweep() -> JobLog | None:
        """The job log of the sweep that this process started; None if it started none."""
        return _own_log

    @classmethod
    def of_this_job(cls) -> JobLog | None:
        """The job log of the sweep that this job belongs to; None outside of sweeps."""
        path = os.environ.get(JOB_LOG)
        if _own_log is not None and path in (None, str(_own_log.path)):
            return _own_log
        return None if path is None else cls(Path(path))

    def create(self, folder: Path | None) -> Path:
        """Create the file in the folder of runs; in a temporary folder if that is None.

        Returns:
            The folder of the file.

        Raises:
            UserError: If the file cannot be written.
        """
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="flrc-"))
        path = folder / f"{self.sweep}.jsonl"
        self._new_folders = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(NEEDED))  # an empty file can be created on a full disk
            path.write_bytes(b"")
        except OSError as error:
            if folder.is_dir():
                path.unlink(missing_ok=True)
            self._remove_folders()
            denied = UserError(
                "records cannot be written",
                given=f"paths.runs={folder}: {error}",
                allowed="a folder that can be created and written to",
                fix="paths.runs=FOLDER",
            )
            full = explained(error) if error.errno in DISK_FULL else None
            raise full or denied from error
        self.path = path
        os.environ[JOB_LOG] = str(path)
        return folder

    def add(self, entry: JobEntry) -> None:
        """Append a line, or raise OSError; the sweep's own process then keeps it in memory."""
        if self.path is None:
            self._unwritten.append(entry)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                # The newline before it ends a line that another process left truncated.
                file.write(f"\n{entry.to_line()}\n")
        except OSError:
            if self is not _own_log:
                raise
            self._unwritten.append(entry)

    def entries(self) -> list[JobEntry]:
        """All entries, in the order in which jobs ended."""
        lines: list[str] = []
        if self.path is not None and self.path.is_file():
            lines = self.path.read_text("utf-8").splitlines()
        entries = []
        for line in filter(None, lines):
            try:
                entries.append(JobEntry.from_line(line))
            except ValueError:  # the disk was full, or the process was killed while writing
                log.warning("an entry of the job log is truncated: %s", line[:120])
        return entries + self._unwritten

    def remove(self) -> None:
        """Delete the file, and the folders that were created for it if they are empty."""
        global _own_log
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            os.environ.pop(JOB_LOG, None)
        self._remove_folders()
        _own_log = None

    def _remove_folders(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        with suppress(OSError):  # at the first that is not empty
            for folder in self._new_folders:
                folder.rmdir()


_own_log: JobLog | None = None
"""The job log of the sweep that this process started."""
