"""Matrices on disk, and matrices in pinned host memory beside a GPU."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from flrc.runtime.streaming import Source

PAGE = 4096
"""Alignment of offsets, sizes and buffers, as reading past the page cache asks for."""


def _padded(size: int) -> int:
    return -(-size // PAGE) * PAGE


class DiskSource(Source):
    """A file without a name, read past the page cache into page-aligned memory.

    Each matrix lies row by row, so the first rows are one stretch of the file.

    Args:
        matrices: ``(count, width)`` each; written once.
        folder: Where the file is made; it is gone when the source is closed, or the process ends.
        buffers: How many.

    Attributes:
        cache: ``bypassed``, or ``dropped`` (after every read) where the file system cannot.
    """

    READERS: ClassVar[int] = 2  # the disk has the next request before it has answered the last

    def __init__(self, matrices: Sequence[Tensor], folder: Path, buffers: int) -> None:
        self.widths = [matrix.shape[1] for matrix in matrices]
        self.dtypes = [matrix.dtype for matrix in matrices]
        self.row_bytes = [matrix.shape[1] * matrix.itemsize for matrix in matrices]
        self.offsets: list[int] = []
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix="offload-")
        with os.fdopen(handle, "wb") as file:
            for matrix in matrices:
                self.offsets.append(file.tell())
                file.write(matrix.detach().cpu().contiguous().view(torch.uint8).numpy().data)
                file.write(b"\0" * (_padded(file.tell()) - file.tell()))
            file.flush()
            os.fsync(file.fileno())
        try:
            self.file = os.open(name, os.O_RDONLY | os.O_DIRECT)
            self.cache = "bypassed"
        except OSError:
            self.file = os.open(name, os.O_RDONLY)
            self.cache = "dropped"
        os.unlink(name)
        size = _padded(max(matrix.nbytes for matrix in matrices))
        self.buffers = [mmap.mmap(-1, size) for _ in range(buffers)]

    def read(self, item: int, rows: int, buffer: int) -> int:
        """All of it, before it returns."""
        needed = rows * self.row_bytes[item]
        view = memoryview(self.buffers[buffer])
        done = 0
        while done < needed:
            target = view[done : _padded(needed)]
            found = os.preadv(self.file, [target], self.offsets[item] + done)
            if found == 0:
                raise OSError("the offloaded file ended early")
            done += found
        if self.cache == "dropped":
            os.posix_fadvise(self.file, self.offsets[item], needed, os.POSIX_FADV_DONTNEED)
        return needed

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """A view of the buffer."""
        width = self.widths[item]
        values = torch.frombuffer(self.buffers[buffer], dtype=self.dtypes[item], count=rows * width)
        return values.view(rows, width)

    def used(self, buffer: int) -> None:
        """Nothing: the CPU has computed when it returns."""

    def close(self) -> None:
        """The file is gone; buffers go with the last tensor that views them."""
        os.close(self.file)
        self.buffers = []


class PinnedSource(Source):
    """Pinned host memory, copied on a stream of its own while the device computes.

    Args:
        matrices: ``(count, width)`` each, on any device.
        device: The GPU.
        buffers: How many.
    """

    def __init__(self, matrices: Sequence[Tensor], device: torch.device, buffers: int) -> None:
        self.matrices = [matrix.detach().cpu().pin_memory() for matrix in matrices]
        self.device = device
        size = max(matrix.nbytes for matrix in matrices)
        self.buffers = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(buffers)]
        self.copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.there = [torch.cuda.Event() for _ in range(buffers)]  # type: ignore[no-untyped-call]
        self.free = [torch.cuda.Event() for _ in range(buffers)]  # type: ignore[no-untyped-call]

    def _view(self, item: int, rows: int, buffer: int) -> Tensor:
        matrix = self.matrices[item]
        size = rows * matrix.shape[1] * matrix.itemsize
        return self.buffers[buffer][:size].view(matrix.dtype).view(rows, matrix.shape[1])

    def read(self, item: int, rows: int, buffer: int) -> int:
        """Queued behind what still computes with the buffer."""
        with torch.cuda.device(self.device), torch.cuda.stream(self.copying):
            self.copying.wait_event(self.free[buffer])
            view = self._view(item, rows, buffer)
            view.copy_(self.matrices[item][:rows], non_blocking=True)
            self.there[buffer].record(self.copying)
        return view.nbytes

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """The device waits for the copy; the host does not."""
        torch.cuda.current_stream(self.device).wait_event(self.there[buffer])
        return self._view(item, rows, buffer)

    def used(self, buffer: int) -> None:
        """Noted on the computing stream."""
        self.free[buffer].record(torch.cuda.current_stream(self.device))

    def close(self) -> None:
        """Let go of both memories."""
        self.matrices, self.buffers = [], []


class Paced(Source):
    """Another source behind a link that lets through so many bytes a second, and no more.

    A disk gives one file twice the rate of another, or its cache does; behind a link that is slower
    than any of them, times tell the bytes that were moved.

    Args:
        source: Where matrices lie; faster than the link, else the link changes nothing.
        bytes_per_second: What the link carries, of all readers together.
    """

    def __init__(self, source: Source, bytes_per_second: float) -> None:
        self.source = source
        self.READERS = source.READERS  # type: ignore[misc]
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._turn = threading.Lock()

    def read(self, item: int, rows: int, buffer: int) -> int:
        """Returns when the link would have carried it, behind what was asked for before."""
        asked = time.monotonic()
        moved = self.source.read(item, rows, buffer)
        with self._turn:
            self._free_at = max(self._free_at, asked) + moved / self.bytes_per_second
            arrives = self._free_at
        time.sleep(max(0.0, arrives - time.monotonic()))
        return moved

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """The source's."""
        return self.source.ready(item, rows, buffer)

    def used(self, buffer: int) -> None:
        """The source's."""
        self.source.used(buffer)

    def close(self) -> None:
        """The source's."""
        self.source.close()
