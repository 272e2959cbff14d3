"""Runs a job of a sweep in a process of its own, so that a crash costs no other job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flrc.core.folders import check_writable, temporary_folder
from flrc.core.job_process import ADDED, JOB, SLOT
from flrc.core.progress import display

PROGRAM, FOLDER = "FLRC_PROGRAM", "FLRC_FOLDER"
"""Environment variables: the script that the user called, and the working directory. The workers of
a launcher are other programs and may have another working directory."""
FLAGS = "FLRC_FLAGS"
"""Environment variable: the flags with which the script finds the same configuration, as JSON."""
SINGLE_JOB = ("hydra.mode=RUN", "launcher=basic", "workers=0")
"""Overrides that make a process run one job by itself."""


def set_program(program: str, flags: Sequence[str] = ()) -> None:
    """Tell all processes of this sweep which script, with which flags, to run for a job."""
    os.environ[PROGRAM] = os.path.abspath(program)
    os.environ[FOLDER] = os.getcwd()
    os.environ[FLAGS] = json.dumps(list(flags))


def run(
    overrides: Sequence[str], workers: int, sweep: str, composed: Sequence[str] = ()
) -> str | None:
    """Run one job and wait for it.

    Args:
        overrides: The job's overrides.
        workers: How many jobs of this sweep may run at a time on this machine.
        sweep: The sweep's name, the same in all its processes.
        composed: Further overrides, for values that another process might compose differently.

    Returns:
        Why the process did not end normally; None if it did, even if the job has failed, which it
        has logged itself.
    """
    with display.paused(), _slot(workers, sweep) as slot:
        flags, added = json.loads(os.environ.get(FLAGS, "[]")), [*composed, *SINGLE_JOB]
        command = [sys.executable, os.environ[PROGRAM], *flags, *overrides, *added]
        environment = os.environ | {SLOT: str(slot), ADDED: json.dumps(added), JOB: display.job}
        ended = subprocess.run(command, env=environment, cwd=os.environ[FOLDER], check=False)
    code = ended.returncode
    if code == 0:
        return None
    if code > 0:
        return f"its process ended with exit code {code}"
    hint = " (possibly out of memory)" if -code == signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-code).name}{hint}"


@contextmanager
def _slot(workers: int, sweep: str) -> Iterator[int]:
    """Wait for and hold one of the sweep's slots; a process that dies releases its slot."""
    folder = _slot_folder()
    check_writable("TMPDIR", folder)
    folder.mkdir(exist_ok=True)
    while True:
        for slot in range(workers):
            lock = FileLock(folder / f"{sweep}.{slot}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield slot
            finally:
                lock.release()
            return
        time.sleep(0.2)


def remove_locks(sweep: str) -> None:
    """Delete the lock files of a sweep that has ended on this machine."""
    for path in _slot_folder().glob(f"{sweep}.*.lock"):
        path.unlink(missing_ok=True)


def _slot_folder() -> Path:
    return temporary_folder() / f"flrc-{os.getuid()}"
