"""The roofline of a machine: measured bytes and operations per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

BYTES = 1 << 28
"""Size of the tensors that are read and copied: far larger than any CPU cache."""
SIDE = 2048
"""Rows and columns of the matrices that are multiplied."""
REPEATS = 5


@dataclass(frozen=True)
class Roofline:
    """Throughput of one device with one dtype.

    Attributes:
        bytes_per_second: The highest of a copy (read and written bytes count), a sum, and products
            of matrices with a vector.
        flops_per_second: That of a product of square matrices.
    """

    bytes_per_second: float
    flops_per_second: float

    def seconds(self, moved: float, operations: float) -> float:
        """Lower bound of the time: the longer of moving bytes and of floating-point operations."""
        return max(moved / self.bytes_per_second, operations / self.flops_per_second)


def measure(device: torch.device, dtype: torch.dtype) -> Roofline:
    """Measure the throughput: the best of five repeats each, with torch's current threads."""
    moved = _bytes_per_second(device, dtype)
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    product = torch.empty_like(matrix)
    seconds = _best(lambda: torch.mm(matrix, matrix, out=product), device)
    return Roofline(moved, 2 * SIDE**3 / seconds)


def _bytes_per_second(device: torch.device, dtype: torch.dtype) -> float:
    source = torch.ones(BYTES // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)
    copied = 2 * BYTES / _best(lambda: target.copy_(source), device)
    summed = BYTES / _best(source.sum, device)
    matrices = source.view(-1, SIDE, SIDE)
    vector = torch.ones(SIDE, dtype=dtype, device=device)
    multiplied = BYTES / _best(lambda: [torch.mv(matrix, vector) for matrix in matrices], device)
    return max(copied, summed, multiplied)


def _best(call: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def wait(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
