"""The device that a run computes on."""

from __future__ import annotations

import torch

from flrc.core.job_process import device_index
from flrc.errors import UserError


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; of several the job's own.

    Raises:
        UserError: If the device is unknown or not there.
    """
    if device == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        devices = torch.cuda.device_count()
        return torch.device("cuda", device_index(devices)) if devices > 1 else torch.device("cuda")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            "there is no such device",
            given=f"device={device}",
            allowed=["auto", "cpu", "cuda", "cuda:0"],
        ) from error
    if resolved.type not in ("cpu", "cuda"):
        raise UserError(
            "models run on the CPU or on CUDA",
            given=f"device={device}",
            allowed=["auto", "cpu", "cuda", "cuda:0"],
        )
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "CUDA was asked for, and torch sees no CUDA device",
            given=f"device={device}",
            fix="device=cpu, or install a CUDA build of torch",
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UserError(
            "there are not so many CUDA devices",
            given=f"device={device}",
            allowed=[f"cuda:{index}" for index in range(torch.cuda.device_count())],
        )
    return resolved
