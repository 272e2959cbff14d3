"""Folders, data and the two ways to call the command line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock
from running import ROOT, SWEEP, Call, Ended, Place, Swept, load_script, write_data

from flrc.sweeps import job_isolation


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the parallel processes of one test run share; locked while it is filled."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def data_root(shared: Path) -> Path:
    """The data folder that tests read and do not change."""
    root = shared / "data"
    with FileLock(shared / "data.lock"):
        if not root.exists():
            write_data(root)
    return root


@pytest.fixture
def place(tmp_path: Path, data_root: Path) -> Place:
    """Empty folders for records and cache."""
    return Place(tmp_path, data_root)


@pytest.fixture(scope="session")
def swept(shared: Path, data_root: Path) -> Swept:
    """The README's sweep, run once; tests may add runs to its folders and change none."""
    place, file = Place(shared / "swept", data_root), shared / "swept.json"
    with FileLock(shared / "swept.lock"):
        if not file.exists():
            begin = time.monotonic()
            made = place.run(*SWEEP)
            seconds = time.monotonic() - begin
            file.write_text(json.dumps([asdict(made), seconds]), encoding="utf-8")
    ended, seconds = json.loads(file.read_text(encoding="utf-8"))
    return Swept(place, Ended(**ended), seconds)


@pytest.fixture
def call(
    place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Call]:
    """The command line inside this process, which has imported torch already.

    ``call(*arguments)`` does what ``python run.py`` does, in :func:`place`'s folders or ``at``
    another place.
    """
    import torch
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    for variable in (job_isolation.PROGRAM, job_isolation.FOLDER, job_isolation.FLAGS):
        monkeypatch.setenv(variable, "")  # the command sets them; as before afterwards
    logger = logging.getLogger()
    handlers, level, threads = list(logger.handlers), logger.level, torch.get_num_threads()

    def invoke(*arguments: str, at: Place | None = None, root: Path = ROOT) -> Ended:
        from flrc.sweeps import command_line

        GlobalHydra.instance().clear()
        line = (at or place).line(*arguments)
        script = load_script(root / "run.py")
        monkeypatch.setattr(sys, "argv", [str(root / "run.py"), *line])
        capfd.readouterr()
        code = command_line.sweep(script.main, script.CONF, line)
        return Ended(code, *capfd.readouterr())

    yield invoke
    GlobalHydra.instance().clear()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    torch.set_num_threads(threads)
