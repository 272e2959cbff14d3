"""The job log of a sweep: no truncated entry is read, none is lost on a full disk."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flrc.errors import UserError
from flrc.sweeps import job_log as module
from flrc.sweeps.job_log import JOB_LOG, JobEntry, JobLog, StudyJob

STUDY = StudyJob("table99", "small", "0123456789", "tiny/svd", {"rate": 0.2}, 0, {"name": "none"})
A = JobEntry("ok", "runs/tiny/svd", None, ["c4/perplexity"], "rate=0.2", "runs", STUDY)
B, C = JobEntry("failed", error="b"), JobEntry("failed", error="c")


@pytest.fixture(autouse=True)
def _no_sweep(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(JOB_LOG, raising=False)
    yield
    os.environ.pop(JOB_LOG, None)
    module._own_log = None


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(Path, "write_bytes", open_)


def created(folder: Path | None) -> JobLog:
    log = JobLog.of_new_sweep()
    log.create(folder)
    return log


def test_jobs_of_other_processes_are_read_in_order(tmp_path: Path) -> None:
    log = created(tmp_path)
    assert JobLog.of_this_job() is log
    log.add(A)
    JobLog(Path(os.environ[JOB_LOG])).add(B)
    log.add(C)
    assert log.entries() == [A, B, C]
    log.remove()
    assert not list(tmp_path.iterdir())
    assert JobLog.of_this_job() is None


def test_a_truncated_entry_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = created(tmp_path)
    log.add(A)
    assert log.path is not None
    with log.path.open("a") as file:
        file.write('\n{"status": "torn, st')
    log.add(B)
    with caplog.at_level(logging.WARNING):
        assert log.entries() == [A, B]
    assert "torn, st" in caplog.text


def test_on_a_full_disk_the_sweep_keeps_entries_and_others_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = created(tmp_path)
    log.add(A)
    other = JobLog(log.path)
    with monkeypatch.context() as disk:
        full(disk)
        log.add(B)
        with pytest.raises(OSError, match="No space left"):
            other.add(C)
    assert log.entries() == [A, B]


def test_no_log_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="records cannot be written"):
        created(tmp_path / "file" / "runs")
    full(monkeypatch)
    with pytest.raises(UserError, match="the disk is full"):
        created(tmp_path / "some" / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_empty_folders_go_with_the_log(tmp_path: Path) -> None:
    log = created(tmp_path / "some" / "runs")
    log.add(A)
    log.remove()
    assert not list(tmp_path.iterdir())
    log = created(tmp_path / "some" / "runs")
    (tmp_path / "some" / "record").touch()
    log.remove()
    assert [path.name for path in tmp_path.rglob("*")] == ["some", "record"]


def test_a_temporary_folder_goes_with_all_that_it_holds() -> None:
    log = created(None)
    assert log.path is not None
    (log.path.parent / "multirun.yaml").touch()
    log.add(A)
    assert log.entries() == [A]
    log.remove()
    assert not log.path.parent.exists()


def test_entries_before_the_file_is_created_are_kept() -> None:
    log = JobLog.of_new_sweep()
    assert JobLog.of_this_job() is log
    log.add(A)
    assert log.entries() == [A]
    log.remove()
