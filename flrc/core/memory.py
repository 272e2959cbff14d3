"""How much memory this process holds, and held at most."""

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
    """Put the peak resident, anonymous and device memory inside the block into ``peak``, in bytes.

    Linux resets and reports the resident peak itself; elsewhere, and of anonymous memory, samples
    are taken fifty times a second.
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
        if (anonymous := held()) is not None:
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
    """Most that was allocated on the GPUs, their peaks added up, in bytes; torch must see some."""
    import torch

    return sum(torch.cuda.max_memory_allocated(gpu) for gpu in range(torch.cuda.device_count()))


def held() -> int | None:
    """Anonymous resident memory of this process, in bytes: files that are mapped do not count.

    None where the system does not say.
    """
    return _status("RssAnon")


def _status(name: str) -> int | None:
    """A line of Linux's account of this process, in bytes; None elsewhere."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(f"{name}:")), None)
    return None if found is None else int(found.split()[1]) * 1024
