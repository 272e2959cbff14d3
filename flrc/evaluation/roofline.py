"""What a machine allows: bytes and operations a second, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

BYTES = 1 << 28
"""Size of the tensors that are read and copied: far larger than any cache."""
SIDE = 2048
"""Side of the matrices that are multiplied."""
REPEATS = 5


@dataclass(frozen=True)
class Roofline:
    """Rates of one device at one dtype.

    Attributes:
        bytes_per_second: The best of a copy (read and written bytes count), a sum, and products of
            matrices with a vector.
        flops_per_second: Of a square matrix product.
    """

    bytes_per_second: float
    flops_per_second: float

    def seconds(self, moved: float, operations: float) -> float:
        """The least time in which this can be done: the longer of moving and computing.

        Args:
            moved: Bytes that must be read.
            operations: Floating-point operations.
        """
        return max(moved / self.bytes_per_second, operations / self.flops_per_second)


def measure(device: torch.device, dtype: torch.dtype) -> Roofline:
    """Best of five each, on the threads that torch uses now."""
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
        begun = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
