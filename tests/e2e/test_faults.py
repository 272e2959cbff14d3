"""Faults in the middle of work: reported, recorded, and without effect once they are fixed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from running import FIRST, JOBS, SWEEP, Call, Place, Swept, environment
from test_interruption import results

from flrc.evaluation import reply_generation
from flrc.models.sources.random import Random
from flrc.running import factors as factorise


def assert_as_undisturbed(place: Place, swept: Swept, jobs: tuple[str, ...] = JOBS[:1]) -> None:
    for job in jobs:
        assert results(place, job) == results(swept.place, job)


def fails_once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, error: Exception
) -> None:
    """Call number ``at`` of a function fails; all others work as before."""
    compute: Callable[..., Any] = getattr(owner, name)
    calls = [0]

    def call(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise error
        return compute(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk(
    at: int, place: Place, swept: Swept, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While statistics, factors or gradients are written."""
    import safetensors.torch

    with monkeypatch.context() as full:
        error = OSError(errno.ENOSPC, "No space left on device")
        fails_once(full, safetensors.torch, "save_file", at, error)
        ended = call(*FIRST)
    assert ended.code == 1
    failed = place.record(JOBS[0])["run"]
    assert failed["status"] == "failed"
    assert failed["error"] == "OSError: [Errno 28] No space left on device"
    assert failed["stage"] in ("statistics", "decomposition", "sensitivity")
    assert failed["stage"] in (place.folder(JOBS[0]) / "run.log").read_text("utf-8")
    assert not [p for p in place.cache.rglob(".*") if p.suffix == ".safetensors" and p.is_file()]
    assert call(*FIRST).code == 0
    assert_as_undisturbed(place, swept)


def test_a_disk_too_full_for_the_record(
    place: Place, swept: Swept, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flrc.results.records.store import RunFolder

    with monkeypatch.context() as full:
        error = OSError(errno.ENOSPC, "No space left on device")
        fails_once(full, RunFolder, "write_record", 1, error)
        ended = call(*FIRST)
    assert ended.code == 1
    assert "error: the disk is full" in ended.err
    assert "No space left on device" in ended.err
    assert "Traceback" not in ended.text
    assert not place.records()
    assert call(*FIRST).code == 0
    assert_as_undisturbed(place, swept)


def test_files_that_cannot_grow(place: Place, swept: Swept, call: Call) -> None:
    """With an error from the operating system instead of a full disk: no job can write factors."""
    ended = place.run("-m", "method=flrc", "rate=0.2,0.3", file_limit=60_000)
    assert ended.code == 1
    assert "Traceback" not in ended.text, ended.text[-4000:]
    assert "Logging error" not in ended.text
    assert "the disk is full" in ended.err
    assert "2 of 2 jobs failed" in ended.out
    assert "The same command computes only what is missing." in ended.out
    assert {record["run"]["status"] for record in place.records().values()} == {"failed"}
    assert not list(place.runs.glob(".sweep-*"))
    again = call(*FIRST)
    assert again.code == 0, again.text[-3000:]
    assert_as_undisturbed(place, swept)


def test_an_unwritable_home(place: Place, swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, W&B's files and the plot of the table: none of them needs the home directory."""
    monkeypatch.setenv("HOME", f"{os.devnull}/home")
    for variable in ("HF_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    ended = place.run(*FIRST, "tracker=wandb", "tracker.mode=offline")
    assert ended.code == 0, ended.text[-3000:]
    assert "Traceback" not in ended.text
    assert "rendered in " in ended.out
    assert place.record(JOBS[0])["results"] == swept.place.record(JOBS[0])["results"]
    assert list((place.cache / "libraries" / "matplotlib").iterdir())
    assert list((place.runs / "wandb").glob("offline-run-*"))


def test_a_record_of_a_newer_version_is_kept(place: Place, call: Call) -> None:
    arguments = ("method=svdllm", "rate=0.2", "evaluation=perplexity")
    assert call(*arguments).code == 0
    path = place.folder(JOBS[2]) / "record.json"
    newer = path.read_text("utf-8").replace('"schema": 1', '"schema": 2', 1)
    path.write_text(newer, "utf-8")
    for more in ((), ("force=true",), ("evaluation.perplexity.windows=2",)):
        ended = call(*arguments, *more)
        assert ended.code == 1
        assert "a newer version of flrc wrote this file" in ended.err
        assert "Traceback" not in ended.text
        assert path.read_text("utf-8") == newer


def test_a_nan_in_a_block(
    place: Place, swept: Swept, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Random.load

    def broken(self: Random, dtype: str) -> Any:
        model = load(self, dtype)
        model.model.layers[1].mlp.down_proj.weight.data[3, 5] = torch.nan
        return model

    with monkeypatch.context() as fault:
        fault.setattr(Random, "load", broken)
        # Another model, another id: the fingerprint of a random one is its seed's.
        fault.setattr(Random, "fingerprint", lambda _: "broken")
        ended = call("-m", "method=flrc,kfac", "rate=0.2", "search=none")
    assert ended.code == 1
    assert "2 of 2 jobs failed" in ended.out
    # The model is not usable: the weight is named, and nothing has been computed.
    assert "weights of the model are not finite: model.layers.1.mlp.down_proj.weight" in ended.text
    assert "Traceback" not in ended.text
    assert not place.records()
    assert not place.entries("factors")
    assert call(*FIRST).code == 0
    (undisturbed,) = (
        record for record in place.records().values() if record["run"]["status"] == "ok"
    )
    assert undisturbed["results"] == swept.place.record(JOBS[0])["results"]


def test_out_of_memory_in_one_job(
    place: Place, swept: Swept, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as fault:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        fails_once(fault, factorise, "decomposed_block", 2, error)
        ended = call(*SWEEP)
    assert ended.code == 1
    assert "1 of 4 jobs failed" in ended.out
    assert "CUDA out of memory" in ended.out
    statuses = [place.record(job)["run"]["status"] for job in JOBS]
    assert statuses == ["failed", "ok", "ok", "ok"]
    assert_as_undisturbed(place, swept, JOBS[1:])
    assert call(*SWEEP).code == 0
    assert_as_undisturbed(place, swept, JOBS)


def test_out_of_memory_while_generating(
    place: Place, swept: Swept, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch size is halved, which is logged and does not change the results."""
    with monkeypatch.context() as fault:
        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        fails_once(fault, reply_generation.Decoder, "generate", 2, error)
        ended = call(*FIRST)
    assert ended.code == 0, ended.text[-3000:]
    assert "out of memory with batches of 4: continuing with batches of 2" in ended.text
    assert_as_undisturbed(place, swept)


HOLD = """
import sys, time
from pathlib import Path
from filelock import FileLock
for path in sys.argv[1:]:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    FileLock(path).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_locks_left_by_a_dead_process(place: Place, swept: Swept, call: Call) -> None:
    locks = [
        place.cache / path.relative_to(swept.place.cache).with_suffix(".lock")
        for path in swept.place.entries("factors")
    ]
    folder = swept.place.folder(JOBS[0]).relative_to(swept.place.runs)
    locks.append(place.runs / folder / ".lock")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, locks)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    assert all(lock.is_file() for lock in locks)
    assert call(*FIRST).code == 0
    assert_as_undisturbed(place, swept)


def test_a_truncated_cache_entry(place: Place, swept: Swept, call: Call) -> None:
    """A machine that lost power can leave empty files behind a finished marker."""
    assert call(*FIRST).code == 0
    (entry,) = place.entries("factors")
    path: Path = entry / "block_000.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    for record in place.runs.rglob("record.json"):
        record.unlink()
    ended = call(*FIRST)
    assert ended.code == 0
    assert f"{path} is damaged; it is computed again" in ended.text
    assert_as_undisturbed(place, swept)
