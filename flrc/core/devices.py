"""The device that a run computes on."""

from __future__ import annotations

import re

import torch

from flrc.core.job_process import device_index
from flrc.errors import UserError


def resolve_device(device: str) -> torch.device:
    """The device ``cpu``, ``cuda`` or ``cuda:<index>``; ``auto`` prefers CUDA if it is available.

    With several GPUs and ``auto`` the jobs of a sweep take them in turn.

    Raises:
        UserError: If the device is unknown or not available.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        devices = torch.cuda.device_count()
        return torch.device("cuda", device_index(devices)) if devices > 1 else torch.device("cuda")
    try:
        resolved = torch.device(device)
        known = resolved.type in ("cpu", "cuda")
    except (RuntimeError, TypeError):
        known = False
    if not known:
        raise UserError(
            "the device is unknown, or is neither the CPU nor CUDA",
            given=f"device={device}",
            allowed="auto, cpu, cuda, or one GPU, such as cuda:0",
            fix="device=cuda" if re.search("cuda|gpu", str(device)) else "device=auto",
        )
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "torch finds no CUDA device",
            given=f"device={device}",
            fix="use device=cpu, or install a CUDA build of torch",
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UserError(
            "the CUDA device does not exist",
            given=f"device={device}",
            allowed=[f"cuda:{index}" for index in range(torch.cuda.device_count())],
        )
    return resolved
