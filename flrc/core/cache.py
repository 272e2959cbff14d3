"""Stage cache: results that runs share, keyed by the content of their inputs."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from flrc.core import jsonfile
from flrc.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

DONE = "inputs.json"
"""Written last: an entry without it was interrupted and counts as missing."""
RECENT = 24 * 3600
"""Seconds during which a used entry counts as needed by a running sweep."""


@dataclass(frozen=True)
class Entry:
    """One cached result: a folder of safetensors and JSON files, and all inputs that decide it."""

    path: Path
    inputs: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether the result is complete; reading it marks it as used.

        If a file is missing or truncated (as after a power failure), this is logged and the result
        counts as missing: it is computed again.
        """
        marker = self.path / DONE
        if not marker.is_file():
            return False
        try:
            known: dict[str, int] = jsonfile.read(marker).get("bytes", {})
        except ValueError:
            known = {DONE: marker.stat().st_size + 1}  # truncated itself
        for name, size in known.items():
            path = self.path / name
            if not path.is_file() or path.stat().st_size < size:
                log.warning("%s is damaged; it is computed again", path)
                return False
        os.utime(marker)
        return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the entry's lock: two workers never compute the same stage twice."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            yield

    def finish(self) -> None:
        """Mark the result complete."""
        sizes = {path.name: path.stat().st_size for path in self.path.iterdir() if path.is_file()}
        sizes.pop(DONE, None)
        jsonfile.write(self.path / DONE, {"inputs": self.inputs, "bytes": sizes})

    def clear(self) -> None:
        """Delete the result; the caller holds the entry."""
        shutil.rmtree(self.path)
        self.path.mkdir()

    def has(self, name: str) -> bool:
        """Whether a file of the entry exists (files are written atomically)."""
        return (self.path / name).is_file()

    def write_tensors(self, name: str, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
        """Write a safetensors file atomically; ``notes`` are its metadata."""
        from safetensors.torch import save_file

        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(plain, temporary, notes)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically."""
        jsonfile.write(self.path / name, value)

    def read_json(self, name: str) -> Any:
        """Read :meth:`write_json` back."""
        return jsonfile.read(self.path / name)


@contextmanager
def locked(*entries: Entry | None) -> Iterator[None]:
    """Hold cache entries in the order given; one order everywhere prevents deadlocks."""
    with ExitStack() as stack:
        for entry in filter(None, entries):
            stack.enter_context(entry.lock())
        yield


class StageCache:
    """All entries under one folder, kept below a size.

    Args:
        root: The folder.
        limit: Bytes; the least recently used entries are evicted first. What was used during the
            last day is kept even above the limit, since a sweep may need it; this is logged.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self.limit = limit

    def entry(self, stage: str, inputs: dict[str, Any]) -> Entry:
        """The entry of a stage's result for these inputs, whether it exists or not."""
        return Entry(self.root / stage / jsonfile.digest(inputs, 20), inputs)

    def require_space(self, needed: int, what: str) -> None:
        """Raise UserError unless the disk has ``needed`` bytes free for ``what``."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if free < needed:
            raise UserError(
                f"not enough free disk space for the cache: {what}",
                given=f"{free / 1e9:.2f} GB free at {self.root}",
                allowed=f"at least {needed / 1e9:.2f} GB",
                fix="free some space, or set paths.cache to a folder on a larger disk",
            )

    def trim(self) -> None:
        """Evict the least recently used entries until the size limit holds."""
        entries = [(m.stat().st_mtime, m.parent) for m in self.root.glob(f"*/*/{DONE}")]
        sizes = {path: sum(f.stat().st_size for f in path.iterdir()) for _, path in entries}
        total = sum(sizes.values())
        now = time.time()
        for used, path in sorted(entries):
            if total <= self.limit:
                return
            if now - used < RECENT:
                log.warning(
                    "the cache holds %.1f GB (limit %.1f GB), all used during the last day",
                    total / 1e9,
                    self.limit / 1e9,
                )
                return
            try:
                with FileLock(path.with_suffix(".lock"), timeout=0):
                    (path / DONE).unlink()
                    shutil.rmtree(path)
            except Timeout:
                continue
            total -= sizes[path]
            log.info("evicted %s from the cache", path)
