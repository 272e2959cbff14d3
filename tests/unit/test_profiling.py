"""Time and peak memory of stages."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from flrc.running.profiling import Stages


def test_a_stage_measures_its_time_and_adds_up() -> None:
    stages = Stages()
    for _ in range(2):
        with stages("load") as stage:
            time.sleep(0.05)
    with stages("other") as other:
        other.cached = True
    assert stages.done == [stage, other]
    assert 0.1 <= stage.seconds < 2
    assert stages.current == "other"
    (first, second) = stages.to_json()
    assert first["name"] == "load"
    assert first["cached"] is False
    assert second["cached"] is True


def test_a_failing_stage_is_named_and_measured() -> None:
    stages = Stages()

    def fail() -> None:
        with stages("load"):
            time.sleep(0.02)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stages.current == "load"
    assert stages.done[0].seconds >= 0.02
    assert stages.done[0].peak_bytes > 0


def test_each_counts_only_the_making_of_items() -> None:
    def make() -> object:
        for item in range(3):
            time.sleep(0.02)
            yield item

    stages, taken = Stages(), []
    for item in stages.each("making", make()):
        time.sleep(0.3)
        taken.append(item)
    assert taken == [0, 1, 2]
    assert 0.06 <= stages.done[0].seconds < 0.6  # what is done with them takes 0.9


PROGRAM = """
import torch
from flrc.running.profiling import Stages
stages = Stages()
with stages("before"):
    pass
with stages("large"):
    block = torch.ones(200_000_000, dtype=torch.uint8)
    import time; time.sleep(0.1)
    del block
with stages("after"):
    pass
before, large, after = (s.peak_bytes for s in stages.done)
assert large - before > 190e6, (before, large)
assert large - after > 150e6, (large, after)
"""


def test_peak_memory_sees_what_a_stage_allocates_and_gives_back() -> None:
    # In its own process: memory freed by other tests could be reused unnoticed.
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
