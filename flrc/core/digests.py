"""Digests of files, cached until the file changes."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from pathlib import Path

TIMESTAMP_RESOLUTION = 2_000_000_000
"""Nanoseconds within which two changes of a file may have the same timestamp."""


def file_digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Cached by the file's inode, size, modification time (mtime) and change time (ctime). Every write
    updates the ctime, and no program can set it back, as copying tools do with the mtime. Since
    timestamps are coarse, a file that has just been changed is read every time.
    """
    status = path.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if time.time_ns() - status.st_ctime_ns < TIMESTAMP_RESOLUTION:
        return _read(path, state)
    return _cached(path.absolute(), state)


def _read(path: Path, _state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_cached = lru_cache(maxsize=4096)(_read)
