"""The digest of a file's content, remembered as long as nobody can have changed the file."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from pathlib import Path

SETTLED = 2_000_000_000
"""Nanoseconds after a change during which the next one may bear the same time of change."""

Witness = tuple[int, ...]


def file_digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    It is remembered under the file's inode, size, and times of modification and of change. The last
    is the system's own: every write moves it, and nothing sets it back, as copying tools do with
    the time of modification. Clocks of file systems tick coarsely, so that a file that was changed
    just now is read each time.
    """
    status = path.stat()
    witness = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    if time.time_ns() - status.st_ctime_ns < SETTLED:
        return _read(path, witness)
    return _remembered(path.absolute(), witness)


def _read(path: Path, _witness: Witness) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_remembered = lru_cache(maxsize=4096)(_read)
