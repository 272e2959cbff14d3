"""How the jobs of a sweep ended: one line each, from whatever process and machine ran them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from flrc.errors import FULL, UserError, explained

log = logging.getLogger(__name__)

LEDGER = "FLRC_SWEEP_LEDGER"
"""Environment variable: the file in which every job, in any process, notes how it ended."""


NEEDED = 16384
"""Bytes that must be free for a sweep to begin: notes, and what Hydra writes of it."""


class Ledger:
    """The notes of one sweep, in a file beside the records, which all its jobs reach.

    Args:
        path: The file; None before the sweep begins: what is noted until then is remembered.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._name = f".sweep-{uuid.uuid4().hex[:12]}" if path is None else path.stem
        self._made: list[Path] = []
        self._temporary: Path | None = None
        self._unwritten: list[dict[str, Any]] = []

    @property
    def sweep(self) -> str:
        """The sweep's name, the same in all its processes."""
        return self._name

    @classmethod
    def lead(cls) -> Ledger:
        """The notes of the sweep that this process leads from now on."""
        global _led
        _led = cls()
        return _led

    @staticmethod
    def led() -> Ledger | None:
        """The notes of the sweep that this process leads, if it leads one."""
        return _led

    @classmethod
    def of_this_job(cls) -> Ledger | None:
        """The notes of the sweep that this job belongs to; None where it belongs to none."""
        path = os.environ.get(LEDGER)
        if _led is not None and path in (None, str(_led.path)):
            return _led
        return None if path is None else cls(Path(path))

    def begin(self, folder: Path | None) -> Path:
        """Make the file.

        Args:
            folder: Where records go; None for a temporary folder, where the sweep writes none.

        Returns:
            The folder.

        Raises:
            UserError: If nothing can be written there.
        """
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="flrc-"))
        path = folder / f"{self.sweep}.jsonl"
        self._made = [one for one in (folder, *folder.parents) if not one.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(NEEDED))  # a full disk takes an empty file
            path.write_bytes(b"")
        except OSError as error:
            if folder.is_dir():
                path.unlink(missing_ok=True)
            self._remove_folders()
            full = explained(error) if error.errno in FULL else None
            raise (
                full
                or UserError(
                    "records cannot be written",
                    given=f"paths.runs={folder}: {error}",
                    allowed="a folder that can be made and written to",
                    fix="paths.runs=FOLDER",
                )
            ) from error
        self.path = path
        os.environ[LEDGER] = str(path)
        return folder

    def note(self, job: dict[str, Any]) -> None:
        """Append one line, whole: jobs may run side by side.

        Raises:
            OSError: If it cannot be written, in any process but the sweep's own, which remembers.
        """
        if self.path is None:
            self._unwritten.append(job)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(job) + "\n")  # whatever a torn line has left
        except OSError:
            if self is not _led:
                raise
            self._unwritten.append(job)

    def jobs(self) -> list[dict[str, Any]]:
        """What was noted, in the order in which jobs ended."""
        written = self.path is not None and self.path.is_file()
        lines = self.path.read_text("utf-8").splitlines() if self.path and written else []
        found = []
        for line in filter(None, lines):
            try:
                found.append(json.loads(line))
            except ValueError:  # the disk was full, or its process was killed at this moment
                log.warning("a job's note was cut off: %s", line[:120])
        return found + self._unwritten

    def end(self) -> None:
        """Remove the file, and the folders that were made for it and hold nothing else."""
        global _led
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            os.environ.pop(LEDGER, None)
        self._remove_folders()
        _led = None

    def _remove_folders(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:  # it holds something by now
                return


_led: Ledger | None = None
"""That of the sweep which this process leads."""
