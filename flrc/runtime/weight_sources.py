"""Where streamed matrices are stored: on disk, or in pinned host memory."""

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

from flrc.runtime.weight_streaming import Source

PAGE = 4096
"""Alignment of offsets, sizes and buffers, which ``O_DIRECT`` requires."""


def _padded(size: int) -> int:
    return -(-size // PAGE) * PAGE


class DiskSource(Source):
    """An unlinked file, read into page-aligned memory, bypassing the page cache.

    Matrices, each ``(count, width)``, are stored row by row, so the first rows are contiguous in
    the file, which is deleted when the source is closed or the process ends.

    Attributes:
        cache: ``bypassed``; or ``dropped`` after every read, if the file system lacks ``O_DIRECT``.
    """

    READERS: ClassVar[int] = 2  # so that the disk always has a pending request

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
        """See :class:`Source`; returns when all is read."""
        needed = rows * self.row_bytes[item]
        view = memoryview(self.buffers[buffer])
        done = 0
        while done < needed:
            target = view[done : _padded(needed)]
            count = os.preadv(self.file, [target], self.offsets[item] + done)
            if count == 0:
                raise OSError("the offload file is truncated")
            done += count
        if self.cache == "dropped":
            os.posix_fadvise(self.file, self.offsets[item], needed, os.POSIX_FADV_DONTNEED)
        return needed

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """See :class:`Source`; a view of the buffer."""
        width = self.widths[item]
        values = torch.frombuffer(self.buffers[buffer], dtype=self.dtypes[item], count=rows * width)
        return values.view(rows, width)

    def used(self, buffer: int) -> None:
        """See :class:`Source`; nothing to do, since the CPU computes synchronously."""

    def close(self) -> None:
        """See :class:`Source`; buffers are freed with the last tensor that views them."""
        os.close(self.file)
        self.buffers = []


class PinnedSource(Source):
    """Pinned host memory, copied on a separate CUDA stream while the device computes.

    The matrices, each ``(count, width)``, may be on any device.
    """

    def __init__(self, matrices: Sequence[Tensor], device: torch.device, buffers: int) -> None:
        self.matrices = [matrix.detach().cpu().pin_memory() for matrix in matrices]
        self.device = device
        size = max(matrix.nbytes for matrix in matrices)
        self.buffers = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(buffers)]
        self.copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.copied = [torch.cuda.Event() for _ in range(buffers)]  # type: ignore[no-untyped-call]
        self.free = [torch.cuda.Event() for _ in range(buffers)]  # type: ignore[no-untyped-call]

    def _view(self, item: int, rows: int, buffer: int) -> Tensor:
        matrix = self.matrices[item]
        size = rows * matrix.shape[1] * matrix.itemsize
        return self.buffers[buffer][:size].view(matrix.dtype).view(rows, matrix.shape[1])

    def read(self, item: int, rows: int, buffer: int) -> int:
        """See :class:`Source`; queued after pending computations with the buffer."""
        with torch.cuda.device(self.device), torch.cuda.stream(self.copying):
            self.copying.wait_event(self.free[buffer])
            view = self._view(item, rows, buffer)
            view.copy_(self.matrices[item][:rows], non_blocking=True)
            self.copied[buffer].record(self.copying)
        return view.nbytes

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """See :class:`Source`; the device waits for the copy, the host does not."""
        torch.cuda.current_stream(self.device).wait_event(self.copied[buffer])
        return self._view(item, rows, buffer)

    def used(self, buffer: int) -> None:
        """See :class:`Source`; recorded on the current stream."""
        self.free[buffer].record(torch.cuda.current_stream(self.device))

    def close(self) -> None:
        """See :class:`Source`; frees host and device memory."""
        self.matrices, self.buffers = [], []


class RateLimited(Source):
    """Another source, with a limit on the bandwidth of all its readers together.

    The speed of a disk varies between files and with its cache. With a limit below it, times depend
    only on the number of bytes that are moved.
    """

    def __init__(self, source: Source, bytes_per_second: float) -> None:
        self.source = source
        self.READERS = source.READERS  # type: ignore[misc]
        self.bytes_per_second = bytes_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def read(self, item: int, rows: int, buffer: int) -> int:
        """See :class:`Source`; returns when this and all earlier reads fit into the bandwidth."""
        start = time.monotonic()
        moved = self.source.read(item, rows, buffer)
        with self._lock:
            self._free_at = max(self._free_at, start) + moved / self.bytes_per_second
            arrives = self._free_at
        time.sleep(max(0.0, arrives - time.monotonic()))
        return moved

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        """See :class:`Source`."""
        return self.source.ready(item, rows, buffer)

    def used(self, buffer: int) -> None:
        """See :class:`Source`."""
        self.source.used(buffer)

    def close(self) -> None:
        """See :class:`Source`."""
        self.source.close()
