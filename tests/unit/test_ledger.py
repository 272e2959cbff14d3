"""The notes of a sweep's jobs: nothing torn, nothing lost with a full disk."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flrc.errors import UserError
from flrc.sweeps import job_log as module
from flrc.sweeps.job_log import LEDGER, Ledger


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


def begun(folder: Path | None) -> Ledger:
    led = Ledger.lead()
    led.begin(folder)
    return led


def test_jobs_of_other_processes_are_read_in_order(tmp_path: Path) -> None:
    led = begun(tmp_path)
    assert Ledger.of_this_job() is led
    led.note({"job": "a"})
    Ledger(Path(os.environ[LEDGER])).note({"job": "b"})
    led.note({"job": "c"})
    assert [job["job"] for job in led.jobs()] == ["a", "b", "c"]
    led.end()
    assert not list(tmp_path.iterdir())
    assert Ledger.of_this_job() is None


def test_a_torn_note_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    led = begun(tmp_path)
    led.note({"job": "a"})
    assert led.path is not None
    with led.path.open("a") as file:
        file.write('\n{"job": "torn, st')
    led.note({"job": "b"})
    with caplog.at_level(logging.WARNING):
        assert [job["job"] for job in led.jobs()] == ["a", "b"]
    assert "torn, st" in caplog.text


def test_on_a_full_disk_the_sweep_remembers_and_others_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    led = begun(tmp_path)
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
        begun(tmp_path / "file" / "runs")
    full(monkeypatch)
    with pytest.raises(UserError, match="the disk is full"):
        begun(tmp_path / "some" / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folders_that_hold_nothing_else_go_with_the_notes(tmp_path: Path) -> None:
    led = begun(tmp_path / "some" / "runs")
    led.note({"job": "a"})
    led.end()
    assert not list(tmp_path.iterdir())
    led = begun(tmp_path / "some" / "runs")
    (tmp_path / "some" / "record").touch()
    led.end()
    assert [path.name for path in tmp_path.rglob("*")] == ["some", "record"]


def test_a_temporary_folder_goes_with_all_that_it_holds() -> None:
    led = begun(None)
    assert led.path is not None
    (led.path.parent / "multirun.yaml").touch()
    led.note({"job": "a"})
    assert led.jobs() == [{"job": "a"}]
    led.end()
    assert not led.path.parent.exists()


def test_what_is_noted_before_it_begins_is_remembered() -> None:
    led = Ledger.lead()
    assert Ledger.of_this_job() is led
    led.note({"job": "a"})
    assert led.jobs() == [{"job": "a"}]
    led.end()
