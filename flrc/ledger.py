"""How the jobs of a sweep ended: one line each, from whatever process and machine ran them."""

from __future__ import annotations

import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

from flrc.errors import UserError, explained

log = logging.getLogger(__name__)

LEDGER = "FLRC_SWEEP_LEDGER"
"""Environment variable: the file in which every job, in any process, notes how it ended."""


NEEDED = 16384
"""Bytes that must be free for a sweep to begin: notes, and what Hydra writes of it."""


class Ledger:
    """The notes of one sweep, in a file beside the records, which all its jobs reach.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: list[dict[str, Any]] = []

    @property
    def sweep(self) -> str:
        """The sweep's name, the same in all its processes."""
        return self.path.stem

    @classmethod
    def begin(cls, arguments: list[str]) -> Ledger:
        """Start the notes of the sweep that this process leads.

        Args:
            arguments: The command line, which may say where records go.

        Raises:
            UserError: If nothing can be written there.
        """
        global _led
        from flrc.config import Paths

        given = [word.partition("=")[2] for word in arguments if word.startswith("paths.runs=")]
        paths = Paths(runs=given[-1].strip("'\"")) if given else Paths()
        runs = Path(paths.runs).expanduser().resolve()
        ledger = cls(runs / f".sweep-{uuid.uuid4().hex[:12]}.jsonl")
        try:
            runs.mkdir(parents=True, exist_ok=True)
            ledger.path.write_bytes(bytes(NEEDED))  # a full disk takes an empty file
            ledger.path.write_bytes(b"")
        except OSError as error:
            if runs.is_dir():
                ledger.path.unlink(missing_ok=True)
            raise (
                explained(error)
                or UserError(
                    "records cannot be written",
                    given=f"paths.runs={runs}: {error}",
                    allowed="a folder that can be made and written to",
                    fix="paths.runs=runs",
                )
            ) from error
        os.environ[LEDGER] = str(ledger.path)
        _led = ledger
        return ledger

    @classmethod
    def of_this_job(cls) -> Ledger | None:
        """The notes of the sweep that this job belongs to; None where it belongs to none."""
        path = os.environ.get(LEDGER)
        if path is None:
            return None
        return _led if _led is not None and str(_led.path) == path else cls(Path(path))

    def note(self, job: dict[str, Any]) -> None:
        """Append one line, whole: jobs may run side by side.

        Raises:
            OSError: If it cannot be written, in any process but the sweep's own, which remembers.
        """
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
        lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        found = []
        for line in filter(None, lines):
            try:
                found.append(json.loads(line))
            except ValueError:  # the disk was full, or its process was killed at this moment
                log.warning("a job's note was cut off: %s", line[:120])
        return found + self._unwritten

    def end(self) -> None:
        """Remove the file."""
        global _led
        self.path.unlink(missing_ok=True)
        os.environ.pop(LEDGER, None)
        _led = None


_led: Ledger | None = None
"""That of the sweep which this process leads."""
