"""Streams matrices into a few reused buffers, ahead of use and in the order of use."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from flrc.models.layers.rows import Rows, Stream


class Source(ABC):
    """Where streamed matrices are stored: a file, or pinned host memory.

    A source has numbered buffers. :meth:`read` fills one, in another thread than the one that
    computes; :meth:`ready` then returns its content.
    """

    READERS: ClassVar[int] = 1
    """Number of threads that read concurrently, into different buffers."""

    @abstractmethod
    def read(self, item: int, rows: int, buffer: int) -> int:
        """Transfer the first rows of a matrix, or queue the transfer; returns the bytes moved."""

    @abstractmethod
    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """The rows, for computations that start now."""

    @abstractmethod
    def used(self, buffer: int) -> None:
        """Called when all computations with a buffer have been queued on the device."""

    @abstractmethod
    def close(self) -> None:
        """Release files and memory."""


@dataclass
class _Slot:
    """The content of a buffer, present or still being read."""

    item: int
    rows: int
    filled: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Streamer:
    """Prefetches matrices while the current one is used.

    Threads read ahead in the order of use, cyclically, as long as there are free buffers. A matrix
    that is requested out of order, or with more rows than were read, is read on the spot, and
    prefetching continues after it; this is slow, so it is counted. One thread computes.

    Args:
        source: The source of the matrices.
        rows: For each matrix, in the order of use, a function that returns how many rows the next
            forward step uses (0 if it is not used); called when the matrix is read.
        buffers: Number of buffers, at least 2.

    Attributes:
        moved: Bytes read so far.
        misses: Matrices that were requested out of order, or with more rows than were read.
    """

    def __init__(self, source: Source, rows: Sequence[Callable[[], int]], buffers: int) -> None:
        self.source = source
        self.rows = rows
        self.moved = 0
        self.misses = 0
        self._slots: list[_Slot | None] = [None] * buffers
        self._free = deque(range(buffers))
        self._ahead: deque[int] = deque()
        self._next = 0
        self._changed = threading.Condition()
        self._closed = False
        self._dropping = False  # the threads would read ahead into the buffers that are freed
        self._threads = [
            threading.Thread(target=self._read_ahead, daemon=True) for _ in range(source.READERS)
        ]
        for thread in self._threads:
            thread.start()

    def use(self, item: int, rows: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Call ``compute`` with the first rows of a matrix, which are valid until it returns."""
        buffer, slot = self._take(item, rows)
        slot.filled.wait()
        try:
            if slot.error is not None:
                raise slot.error
            return compute(self.source.ready(item, rows, buffer))
        finally:
            self.source.used(buffer)
            with self._changed:
                self._free.append(buffer)
                self._changed.notify_all()

    def close(self) -> None:
        """Stop the threads and close the source."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self.source.close()

    def _take(self, item: int, rows: int) -> tuple[int, _Slot]:
        """The buffer with these rows, or into which they are being read."""
        with self._changed:
            if self._ahead:
                buffer = self._ahead[0]
                slot = self._slots[buffer]
                assert slot is not None
                if slot.item == item and slot.rows >= rows:
                    self._ahead.popleft()
                    return buffer, slot
            if self._ahead or self._following() != item:
                self.misses += 1
                self._drop_ahead()
            self._next = (item + 1) % len(self.rows)
            buffer = self._free.popleft()
            self._slots[buffer] = slot = _Slot(item, rows)
            self._changed.notify_all()
        self._fill(slot, buffer)
        return buffer, slot

    def _following(self) -> int | None:
        """The next matrix that is used."""
        count = len(self.rows)
        turns = ((self._next + step) % count for step in range(count))
        return next((item for item in turns if self.rows[item]() > 0), None)

    def _drop_ahead(self) -> None:
        """Free the prefetched buffers, waiting for reads in progress."""
        self._dropping = True
        while self._ahead:
            slot = self._slots[self._ahead[0]]
            assert slot is not None
            if not slot.filled.is_set():
                self._changed.wait(0.001)
                continue
            self._free.append(self._ahead.popleft())
        self._dropping = False

    def _fill(self, slot: _Slot, buffer: int) -> None:
        moved = 0
        try:
            moved = self.source.read(slot.item, slot.rows, buffer)
        except Exception as error:  # raised where the matrix is used
            slot.error = error
        with self._changed:
            self.moved += moved
        slot.filled.set()

    def _read_ahead(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (self._dropping or not self._free):
                    self._changed.wait()
                item = self._following()
                if self._closed or item is None:
                    return
                self._next = (item + 1) % len(self.rows)
                buffer = self._free.popleft()
                self._slots[buffer] = slot = _Slot(item, self.rows[item]())
                self._ahead.append(buffer)
            self._fill(slot, buffer)


class Streamed(Stream):
    """Matrix number ``item``, with ``count`` rows, of a streamer that all matrices share."""

    def __init__(self, streamer: Streamer, item: int, count: int) -> None:
        self.streamer, self.item, self.count = streamer, item, count

    def use(self, rank: int | None, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """See :class:`~flrc.models.layers.rows.Stream`."""
        return self.streamer.use(self.item, self.count if rank is None else rank, compute)


def streamers(model: nn.Module) -> list[Streamer]:
    """The streamers of a model's matrices."""
    streams = (rows.stream for rows in model.modules() if isinstance(rows, Rows))
    return list(dict.fromkeys(s.streamer for s in streams if isinstance(s, Streamed)))
