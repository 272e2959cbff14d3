"""What a sweep tells the process that it starts for one job, in environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

SLOT = "FLRC_SLOT"
"""Environment variable: the number of the job's slot among the sweep's slots on this machine."""
ADDED = "FLRC_ADDED"
"""Environment variable: the overrides that the sweep added to the user's, as JSON."""

JOB = "FLRC_JOB"
"""Environment variable: which job of the sweep this is, for what is shown: ``job 3 of 8``."""
JOBS = "FLRC_JOBS"
"""Environment variable: how many jobs the sweep has, if that is known."""


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


def job_of_sweep(number: int) -> str:
    """Which job of the sweep this is: ``job 3 of 8``; ``number`` counts from 0 in this process."""
    if JOB in os.environ:
        return os.environ[JOB]
    jobs = os.environ.get(JOBS)
    return f"job {number + 1}" + (f" of {jobs}" if jobs else "")


def device_index(devices: int) -> int:
    """The index of the device for a job with ``device=auto``: slots take the devices in turn."""
    return int(os.environ.get(SLOT, "0")) % devices
