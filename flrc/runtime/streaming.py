"""Brings matrices into a few reused buffers, ahead of use and in the order of use."""

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
    """Where matrices lie that are not held: a file, or pinned host memory.

    A source has numbered buffers; one is filled by :meth:`read`, in another thread than the one
    that computes, and then handed over by :meth:`ready`.
    """

    READERS: ClassVar[int] = 1
    """Threads that read at a time, into different buffers."""

    @abstractmethod
    def read(self, item: int, rows: int, buffer: int) -> int:
        """Transfer the first rows of a matrix, or queue that; the bytes that are moved."""

    @abstractmethod
    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """The rows, for what is computed from now on."""

    @abstractmethod
    def used(self, buffer: int) -> None:
        """All that is computed with a buffer has been given to the device."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held."""


@dataclass
class _Slot:
    """What is, or will be, in a buffer."""

    item: int
    rows: int
    filled: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Streamer:
    """Keeps the next matrices coming while the present one is used.

    Threads read ahead in the order of use, around and around, as far as there are free buffers. A
    matrix that is asked for out of this order, or at more rows than were read, is fetched on the
    spot, and reading ahead goes on behind it: right, but slow, so it is counted. One thread
    computes.

    Args:
        source: Where matrices lie.
        rows: How many rows of each matrix the next pass will use, asked when they are read; in the
            order of use. 0 for one that it will not use.
        buffers: How many there are, 2 at least.

    Attributes:
        moved: Bytes read so far.
        misses: Matrices that were asked for out of order, or at more rows than were read.
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
        self._threads = [
            threading.Thread(target=self._read_ahead, daemon=True) for _ in range(source.READERS)
        ]
        for thread in self._threads:
            thread.start()

    def use(self, item: int, rows: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute`` of the first rows of a matrix, which are there only until it returns."""
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
        """End the threads and let go of the source."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self.source.close()

    def _take(self, item: int, rows: int) -> tuple[int, _Slot]:
        """The buffer that holds, or will hold, these rows."""
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
        self._fill(slot, buffer)
        return buffer, slot

    def _following(self) -> int | None:
        """The next matrix that is used at all."""
        count = len(self.rows)
        turns = ((self._next + step) % count for step in range(count))
        return next((item for item in turns if self.rows[item]() > 0), None)

    def _drop_ahead(self) -> None:
        """Free what was read in vain, once the reading has ended."""
        while self._ahead:
            slot = self._slots[self._ahead[0]]
            assert slot is not None
            if not slot.filled.is_set():
                self._changed.wait(0.001)
                continue
            self._free.append(self._ahead.popleft())

    def _fill(self, slot: _Slot, buffer: int) -> None:
        moved = 0
        try:
            moved = self.source.read(slot.item, slot.rows, buffer)
        except Exception as error:  # told where the matrix is used
            slot.error = error
        with self._changed:
            self.moved += moved
        slot.filled.set()

    def _read_ahead(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._free:
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
    """One matrix of a streamer.

    Args:
        streamer: Shared by all matrices.
        item: Its number.
        count: Its rows.
    """

    def __init__(self, streamer: Streamer, item: int, count: int) -> None:
        self.streamer = streamer
        self.item = item
        self.count = count

    def use(self, rank: int | None, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """See :class:`~flrc.models.layers.rows.Stream`."""
        return self.streamer.use(self.item, self.count if rank is None else rank, compute)


def streamers(model: nn.Module) -> list[Streamer]:
    """Those that a model's matrices come from."""
    found = {
        id(rows.stream.streamer): rows.stream.streamer
        for rows in model.modules()
        if isinstance(rows, Rows) and isinstance(rows.stream, Streamed)
    }
    return list(found.values())
