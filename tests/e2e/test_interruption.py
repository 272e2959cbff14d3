"""Killed in the middle (SIGKILL, so nothing can be cleaned up), and run again."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from running import FIRST, JOBS, ROOT, SWEEP, Call, Place, Swept, environment, read, snapshot


def started(place: Place) -> subprocess.Popen[bytes]:
    """The sweep, running."""
    return subprocess.Popen(
        place.command(*SWEEP),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(place: Place, condition: Callable[[], bool]) -> None:
    """Start the sweep and kill it as soon as ``condition`` holds."""
    process = started(place)
    try:
        deadline = time.monotonic() + 180
        while not condition():
            assert process.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def results(place: Place, job: str) -> dict[str, Any]:
    """What must not depend on how often a sweep was interrupted."""
    record = place.record(job)
    run = {key: value for key, value in record["run"].items() if key != "config"}
    config = {k: v for k, v in record["run"]["config"].items() if k != "paths"}
    return {
        "run": run,
        "config": config,
        "results": record["results"],
        "plan": read(place.folder(job) / "plan.json"),
        "evaluations": {
            path.name: read(path)
            for path in sorted((place.folder(job) / "evaluations").glob("*.json"))
        },
    }


def test_a_killed_sweep_goes_on_where_it_was(place: Place, swept: Swept, call: Call) -> None:
    def found(pattern: str) -> list[Path]:
        return list(place.runs.glob(pattern))

    # In the third job, between its first evaluation and its last.
    kill_when(
        place,
        lambda: (
            len(found("*/*/record.json")) == 2
            and bool(found(f"*/{JOBS[2]}*/evaluations/perplexity.wikitext2-*.json"))
        ),
    )
    assert [bool(found(f"*/{job}*/record.json")) for job in JOBS] == [True, True, False, False]
    finished = [place.folder(job) for job in JOBS[:2]]
    third = place.folder(JOBS[2])
    assert not list((third / "evaluations").glob("summarization.*"))
    before, evaluated = snapshot(*finished), snapshot(third / "evaluations")
    assert evaluated
    entries = {path: path.stat().st_mtime_ns for path in place.cache.rglob("*.safetensors")}

    again = call(*SWEEP)
    assert again.code == 0, again.text[-3000:]
    assert again.err.count("done already, nothing computed") == 2
    assert snapshot(*finished) == before
    assert evaluated.items() <= snapshot(third / "evaluations").items()
    assert {path: path.stat().st_mtime_ns for path in place.cache.rglob("*.safetensors")} == entries
    stages = {s["name"]: s["cached"] for s in place.record(JOBS[2])["meta"]["stages"]}
    assert stages["perplexity wikitext2"] is True
    assert stages["summarization dialogsum"] is False

    for job in JOBS:
        assert results(place, job) == results(swept.place, job)
    left = [path.name for path in place.path.rglob("*.tmp")]
    assert not left, "half-written files stay behind"


def test_killed_while_factors_are_written(place: Place, swept: Swept, call: Call) -> None:
    """A finished block is kept; one whose file is shorter than its header says, which a machine
    that lost power may leave, is computed again.
    """
    kill_when(place, lambda: bool(list(place.cache.glob("factors/*/block_001.safetensors"))))
    assert not place.records()
    assert not list(place.runs.glob("*/*/evaluations/*"))
    stored = {p: p.stat().st_mtime_ns for p in place.cache.glob("factors/*/block_*.safetensors")}
    incomplete = next(path for path in stored if path.stem == "block_000")
    whole = incomplete.read_bytes()
    incomplete.write_bytes(whole[:-64])
    again = call("method=svdllm", "rate=0.2")
    assert again.code == 0, again.text[-3000:]
    assert incomplete.stat().st_size == len(whole)
    now = {path: path.stat().st_mtime_ns for path in stored if path != incomplete}
    assert now.items() <= stored.items(), "a block was done twice"
    assert results(place, JOBS[2]) == results(swept.place, JOBS[2])


def test_interrupted_by_hand(place: Place, swept: Swept, call: Call) -> None:
    """Ctrl-C: finished jobs are in the table, and the message says how to continue."""
    process = subprocess.Popen(
        place.command(*SWEEP),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background makes them ignore the signal.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 180
    while not list(place.runs.glob("*/*/record.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err, (out + err)[-3000:]
    assert "interrupted; the same command computes only what is missing" in err
    assert "flrc" in out, "the table of what is done"
    assert not list(place.runs.glob(".sweep-*"))
    assert call(*FIRST).code == 0
    assert results(place, JOBS[0]) == results(swept.place, JOBS[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(seed: int, place: Place, swept: Swept) -> None:
    """At any moment of any stage, repeatedly: the results of an uninterrupted sweep."""
    draw, kills = random.Random(seed), 0
    while kills < 30:
        process = started(place)
        try:
            code = process.wait(timeout=draw.uniform(0.1, 0.6) * swept.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert code == 0
            break
    assert kills >= 2
    assert place.run(*SWEEP).code == 0
    for job in JOBS:
        assert results(place, job) == results(swept.place, job)
