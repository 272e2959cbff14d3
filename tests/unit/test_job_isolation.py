"""A job's own process: what it is started with, and what follows from how it ended."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import torch

from flrc.core import job_process
from flrc.core.devices import resolve_device
from flrc.sweeps import job_isolation

PROGRAM = """
import os, signal, sys, time
end = sys.argv[1]
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "wait":
    open(sys.argv[2] + os.environ["FLRC_SLOT"], "x").close()  # nobody else has this place
    time.sleep(0.5)
    os.unlink(sys.argv[2] + os.environ["FLRC_SLOT"])
sys.exit(int(end) if end.isdigit() else 0)
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setenv(job_isolation.PROGRAM, str(path))
    monkeypatch.setenv(job_isolation.FOLDER, str(tmp_path))
    monkeypatch.delenv(job_isolation.FLAGS, raising=False)  # of a sweep in this process


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("0", None),
        ("1", "its process ended with exit code 1"),
        ("3", "its process ended with exit code 3"),
        ("killed", "its process was killed by SIGKILL (possibly out of memory)"),
    ],
)
def test_no_end_but_a_good_one_passes_in_silence(end: str, error: str | None) -> None:
    name = f"test-{os.getpid()}"
    assert job_isolation.run([end], 2, name) == error
    job_isolation.remove_locks(name)


def test_no_more_at_a_time_than_there_are_places(tmp_path: Path) -> None:
    name, ended = f"test-{os.getpid()}", []

    def work() -> None:
        ended.append(job_isolation.run(["wait", str(tmp_path / "slot")], 2, name))

    threads = [threading.Thread(target=work) for _ in range(5)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [None] * 5
    assert time.monotonic() - begin >= 1.5  # five of half a second, two at a time
    job_isolation.remove_locks(name)


def test_places_without_number_cost_nothing(tmp_path: Path) -> None:
    name = f"test-{os.getpid()}"
    begin = time.monotonic()
    assert job_isolation.run(["0"], 10**9, name) is None
    assert time.monotonic() - begin < 5
    job_isolation.remove_locks(name)


def test_devices_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [resolve_device("auto").index] == [0]
    found = []
    for slot in range(5):
        monkeypatch.setenv(job_process.SLOT, str(slot))
        found.append(resolve_device("auto").index)
    assert found == [0, 1, 2, 0, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto") == torch.device("cuda")
