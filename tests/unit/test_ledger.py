"""The notes of a sweep's jobs: nothing torn, nothing lost with a full disk."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flrc import ledger as module
from flrc.errors import UserError
from flrc.ledger import LEDGER, Ledger


@pytest.fixture(autouse=True)
def _none_is_led(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(LEDGER, raising=False)
    yield
    os.environ.pop(LEDGER, None)
    module._led = None


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(Path, "write_bytes", open_)


def test_jobs_of_other_processes_are_read_in_order(tmp_path: Path) -> None:
    led = Ledger.begin([f"paths.runs={tmp_path}"])
    assert Ledger.of_this_job() is led
    led.note({"job": "a"})
    Ledger(Path(os.environ[LEDGER])).note({"job": "b"})
    led.note({"job": "c"})
    assert [job["job"] for job in led.jobs()] == ["a", "b", "c"]
    led.end()
    assert not list(tmp_path.iterdir())
    assert Ledger.of_this_job() is None


def test_a_torn_note_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    led = Ledger.begin([f"paths.runs={tmp_path}"])
    led.note({"job": "a"})
    with led.path.open("a") as file:
        file.write('\n{"job": "torn, st')
    led.note({"job": "b"})
    with caplog.at_level(logging.WARNING):
        assert [job["job"] for job in led.jobs()] == ["a", "b"]
    assert "torn, st" in caplog.text


def test_on_a_full_disk_the_sweep_remembers_and_others_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    led = Ledger.begin([f"paths.runs={tmp_path}"])
    led.note({"job": "a"})
    other = Ledger(led.path)
    with monkeypatch.context() as disk:
        full(disk)
        led.note({"job": "b"})
        with pytest.raises(OSError, match="No space left"):
            other.note({"job": "c"})
    assert [job["job"] for job in led.jobs()] == ["a", "b"]


def test_where_nothing_can_be_written_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="records cannot be written"):
        Ledger.begin([f"paths.runs={tmp_path / 'file' / 'runs'}"])
    with pytest.raises(UserError, match="names no folder"):
        Ledger.begin(["paths.runs="])
    full(monkeypatch)
    with pytest.raises(UserError, match="the disk is full"):
        Ledger.begin([f"paths.runs={tmp_path / 'runs'}"])
    assert not list((tmp_path / "runs").iterdir())
