"""Sweeps on the engines that Hydra's launchers reach, with jobs killed while they run."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import ROOT, Place, environment, read

TWO = ("method=svdllm", "rate=0.2,0.3", "evaluation=[perplexity]")


def installed(launcher: str) -> pytest.MarkDecorator:
    """Skips a test unless Hydra's plugin for it is installed."""
    plugin = f"hydra-{launcher.partition('_')[0]}-launcher"
    try:
        distribution(plugin)
    except PackageNotFoundError:
        return pytest.mark.skip(reason=f"pip install {plugin}")
    return pytest.mark.skipif(False, reason="")


def engine(name: str) -> Any:
    slow = () if name == "joblib" else (pytest.mark.slow,)
    return pytest.param(name, marks=[installed(name), *slow])


def jobs_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes in which jobs of a sweep are running."""
    found = []
    for child in process.children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "hydra.mode=RUN" in words and "workers=0" in words:
            found.append(child)
    return found


def sweep(
    place: Place, *words: str, disturb: Callable[[psutil.Process], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, while ``disturb`` interferes with its process."""
    with (place.path / "out").open("w+") as out:
        process = subprocess.Popen(
            place.command("-m", *words), cwd=ROOT, env=environment(), stdout=out, stderr=out
        )
        try:
            if disturb is not None:
                disturb(psutil.Process(process.pid))
            code = process.wait(timeout=600)
        finally:
            process.kill()
        out.seek(0)
        return subprocess.CompletedProcess([], code, out.read())


def killing(times: int, seed: int, killed: list[int]) -> Callable[[psutil.Process], None]:
    """Kills jobs at random moments."""
    draw = random.Random(seed)

    def disturb(process: psutil.Process) -> None:
        while len(killed) < times:
            age = draw.uniform(0.5, 6.0)
            while True:
                assert process.status() != psutil.STATUS_ZOMBIE, "it ended before it was disturbed"
                old = [
                    job for job in jobs_of(process)
                    if job.pid not in killed and time.time() - job.create_time() > age
                ]  # fmt: skip
                if old:
                    break
                time.sleep(0.05)
            victim = draw.choice(old)
            victim.kill()
            killed.append(victim.pid)

    return disturb


def factors_computed(place: Place) -> dict[str, int]:
    """How often each set of factors was computed, by the records of all runs."""
    counts: dict[str, int] = {}
    for record in place.records().values():
        config = record["run"]["config"]
        key = f"{config['decomposition']}, seed {config['seed']}"
        for stage in record["meta"]["stages"]:
            if stage["name"] == "decomposition" and not stage["cached"]:
                counts[key] = counts.get(key, 0) + 1
    return counts


def outcome(place: Place) -> dict[str, Any]:
    """What must not depend on how a sweep was run."""
    found = {}
    for name, record in place.records().items():
        config = {k: v for k, v in record["run"]["config"].items() if k != "paths"}
        found[name] = {
            "run": record["run"] | {"config": config},
            "results": record["results"],
            "plan": read(place.folder(name) / "plan.json"),
        }
    return found


@pytest.mark.parametrize("name", [engine("joblib"), engine("submitit_local"), engine("ray")])
def test_a_killed_job_costs_no_other(name: str, place: Place, tmp_path_factory: Any) -> None:
    words = (f"launcher={name}", *TWO)
    killed: list[int] = []
    first = sweep(place, *words, disturb=killing(1, 0, killed))
    assert first.returncode == 1, first.stdout[-3000:]
    assert "1 of 2 jobs failed" in first.stdout
    assert "its process was killed by SIGKILL" in first.stdout
    assert "The same command computes only what is missing." in first.stdout
    assert [r["run"]["status"] for r in place.records().values()].count("ok") == 1
    files = {path: path.stat().st_mtime_ns for path in place.cache.rglob("*.safetensors")}

    again = sweep(place, *words)
    assert again.returncode == 0, again.stdout[-3000:]
    assert len(place.records()) == 2
    now = {path: path.stat().st_mtime_ns for path in place.cache.rglob("*.safetensors")}
    assert files.items() <= now.items()
    assert max(factors_computed(place).values()) == 1
    assert not list(place.runs.glob(".sweep-*"))
    assert not list(Path(tempfile.gettempdir()).glob("flrc-*/.sweep-*"))

    plain = Place(tmp_path_factory.mktemp("plain"), place.data)
    assert sweep(plain, *TWO).returncode == 0
    assert outcome(plain) == outcome(place)


@pytest.mark.slow
@installed("joblib")
def test_24_jobs_with_two_random_kills(place: Place) -> None:
    words = (
        "launcher=joblib", "method=svdllm,flra,kfac,kfac_skip", "rate=0.2,0.3,0.4", "seed=0,1",
        "evaluation=[perplexity]",
    )  # fmt: skip
    killed: list[int] = []
    first = sweep(place, *words, disturb=killing(2, int(time.time()), killed))
    assert first.returncode == 1, first.stdout[-3000:]
    assert "2 of 24 jobs failed" in first.stdout
    again = sweep(place, *words)
    assert again.returncode == 0, again.stdout[-3000:]
    records = place.records()
    assert len(records) == 24
    assert {record["run"]["status"] for record in records.values()} == {"ok"}
    assert max(factors_computed(place).values()) == 1
