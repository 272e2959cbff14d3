"""What the process of one job of a sweep was told by the sweep that started it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

SLOT = "FLRC_SLOT"
"""Environment variable of such a process: which of the sweep's places on this machine it has."""
ADDED = "FLRC_ADDED"
"""Environment variable of such a process: what it is told beside the job's own words, as JSON."""


def is_isolated() -> bool:
    """Whether this process was started for one job."""
    return SLOT in os.environ


def own(words: Sequence[str]) -> list[str]:
    """Words of the user among those that this process was called with."""
    kept = list(words)[::-1]  # what was added stands last
    for word in json.loads(os.environ.get(ADDED, "[]")):
        if word in kept:
            kept.remove(word)
    return kept[::-1]


def device_index(devices: int) -> int:
    """Which of several devices a job takes that asks for ``auto``: one a slot, in turns."""
    return int(os.environ.get(SLOT, "0")) % devices
