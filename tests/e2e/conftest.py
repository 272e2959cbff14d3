"""Folders, data and the two ways to call the command line."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ROOT, SWEEP, Call, Ended, Place, Swept, load_script, write_data


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder that tests read and do not change."""
    root = tmp_path_factory.mktemp("data")
    write_data(root)
    return root


@pytest.fixture
def place(tmp_path: Path, data_root: Path) -> Place:
    """Empty folders for records and cache."""
    return Place(tmp_path, data_root)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Swept:
    """The README's sweep, run once; tests may add runs to its folders and change none."""
    place = Place(tmp_path_factory.mktemp("swept"), data_root)
    begin = time.monotonic()
    ended = place.run(*SWEEP)
    return Swept(place, ended, time.monotonic() - begin)


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
