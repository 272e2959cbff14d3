"""What a sweep tells the process that it starts for one job, in environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

SLOT = "FLRC_SLOT"
"""Environment variable: the number of the job's slot among the sweep's slots on this machine."""
ADDED = "FLRC_ADDED"
"""Environment variable: the overrides that the sweep added to the user's, as JSON."""


def is_isolated() -> bool:
    """Whether this process was started for one job."""
    return SLOT in os.environ


def user_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides without those that the sweep added to run this job."""
    kept = list(overrides)[::-1]  # the added ones are the last
    for override in json.loads(os.environ.get(ADDED, "[]")):
        if override in kept:
            kept.remove(override)
    return kept[::-1]


def device_index(devices: int) -> int:
    """The index of the device for a job with ``device=auto``: slots take the devices in turn."""
    return int(os.environ.get(SLOT, "0")) % devices
