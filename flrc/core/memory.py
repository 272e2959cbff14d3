"""Current and peak memory use of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@contextmanager
def peak_memory(peak: dict[str, int]) -> Iterator[None]:
    """Measure the peak resident, anonymous and device memory inside the block, in bytes.

    Linux resets and reports the resident peak. On other systems, and for anonymous memory, the peak
    is sampled fifty times per second. ``peak`` receives ``resident`` and, where known,
    ``anonymous`` and ``device``.
    """
    import torch

    if torch.cuda.is_available():
        for gpu in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(gpu)
    try:
        _CLEAR.write_text("5")
        kernel = True
    except OSError:
        kernel = False
    process, ended = psutil.Process(), threading.Event()
    peak["resident"] = process.memory_info().rss

    def sample() -> None:
        if not kernel:
            peak["resident"] = max(peak["resident"], process.memory_info().rss)
        if (anonymous := anonymous_memory()) is not None:
            peak["anonymous"] = max(peak.get("anonymous", 0), anonymous)

    def keep_sampling() -> None:
        while not ended.wait(0.02):
            sample()

    sample()
    sampler = threading.Thread(target=keep_sampling, daemon=True)
    sampler.start()
    try:
        yield
    finally:
        ended.set()
        sampler.join()
        sample()
        if kernel:
            peak["resident"] = _status("VmHWM") or peak["resident"]
        if torch.cuda.is_available():
            peak["device"] = device_peak()


def device_peak() -> int:
    """Sum of the peaks of allocated memory on all GPUs, in bytes; needs CUDA."""
    import torch

    return sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(torch.cuda.device_count()))


def anonymous_memory() -> int | None:
    """Resident memory of this process without mapped files, in bytes; None if not on Linux."""
    return _status("RssAnon")


def _status(name: str) -> int | None:
    """A field of ``/proc/self/status`` in bytes; None if not on Linux."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    match = next((line for line in lines if line.startswith(f"{name}:")), None)
    return None if match is None else int(match.split()[1]) * 1024
