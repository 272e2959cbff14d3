"""What is committed stays done: ids and evaluation files of every study, restored."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tiny import compose

from flrc.results.studies import manifest
from flrc.results.studies.collect import restore
from flrc.results.studies.study import results_of
from flrc.running.finished import finished
from flrc.running.identity import run_folder, run_id

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/table.yaml"))
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(
    not DATA.is_dir(), reason="the ids of committed records contain digests of ../shared/data"
)
@pytest.mark.parametrize("study", STUDIES)
def test_a_restored_study_is_done(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_of(EXPERIMENTS / study, "small")
    jobs = manifest.read(results)
    assert jobs
    restore(results, tmp_path)
    # Speed counts on the machine that it was measured on, with its threads.
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for job in jobs:
        words = shlex.split(job.command)[2:]
        config = compose(*words, f"data.root={DATA}", f"paths.runs={tmp_path}")
        assert run_id(config) == job.run, job.command
        folder = run_folder(config)
        assert folder.path == tmp_path / job.folder
        assert finished(config, folder) is not None, job.command
