"""A job of a sweep in a process of its own: what kills it costs no other job."""

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
from flrc.core.job_process import ADDED, SLOT

PROGRAM, FOLDER = "FLRC_PROGRAM", "FLRC_FOLDER"
"""Environment variables: the script that was called, and where. A launcher's own workers have other
names and may be anywhere."""
FLAGS = "FLRC_FLAGS"
"""Environment variable: the flags by which the script finds the same configuration, as JSON."""
ONE = ("hydra.mode=RUN", "launcher=basic", "workers=0")
"""Of these, the words that make it one job in one process."""


def remember(program: str, flags: Sequence[str] = ()) -> None:
    """Note for all processes of this sweep what was called, and where.

    Args:
        program: The script.
        flags: Flags by which it finds the same configuration.
    """
    where = {PROGRAM: os.path.abspath(program), FOLDER: os.getcwd()}
    os.environ |= where | {FLAGS: json.dumps(list(flags))}


def run(words: Sequence[str], workers: int, sweep: str, composed: Sequence[str] = ()) -> str | None:
    """Run one job and wait for it.

    Args:
        words: The job's overrides.
        workers: How many jobs of this sweep run at a time on this machine.
        sweep: The sweep's name, the same in all its processes.
        composed: Further overrides, of values that another process might compose otherwise.

    Returns:
        What went wrong if the process did not come to its end, else None.
    """
    with _slot(workers, sweep) as slot:
        flags, added = json.loads(os.environ.get(FLAGS, "[]")), [*composed, *ONE]
        command = [sys.executable, os.environ[PROGRAM], *flags, *words, *added]
        known = os.environ | {SLOT: str(slot), ADDED: json.dumps(added)}
        ended = subprocess.run(command, env=known, cwd=os.environ[FOLDER], check=False)
    if ended.returncode == 0:  # however the job ended: it has noted that itself
        return None
    if ended.returncode > 0:
        return f"its process ended with exit code {ended.returncode}"
    name = signal.Signals(-ended.returncode).name
    hint = " (out of memory, perhaps)" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


@contextmanager
def _slot(workers: int, sweep: str) -> Iterator[int]:
    """One of the sweep's places on this machine; a place of a dead process is free again."""
    folder = _slots()
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


def forget(sweep: str) -> None:
    """Remove what the places of a sweep that has ended left on this machine."""
    for path in _slots().glob(f"{sweep}.*.lock"):
        path.unlink(missing_ok=True)


def _slots() -> Path:
    return temporary_folder() / f"flrc-{os.getuid()}"
