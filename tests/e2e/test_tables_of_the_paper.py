"""Every study of the paper: composes at both scales, runs at tiny scale, and ends in its table."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from running import ROOT, Call, Place, read, write_data

from flrc.core import jsonfile
from flrc.sweeps.next_steps import MOST_LINES

EXPERIMENTS = ROOT / "experiments"
STUDIES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/table.yaml"))
SAMPLE = ROOT / "flrc" / "data" / "sample"
CHOICES = (
    "arc_easy", "arc_challenge", "hellaswag", "openbookqa", "winogrande", "mathqa", "piqa",
)  # fmt: skip
TINY = ("model=tiny", "device=cpu", "threads=1")
CALIBRATION = ("calibration.samples=2", "calibration.length=64", "allocator.samples=1")
PERPLEXITY = ("evaluation.perplexity.windows=1", "evaluation.perplexity.length=64")
ZEROSHOT = ("evaluation.zeroshot.limit=1",)
REPLIES = (
    "calibration.dialogues=2", "search.samples=2", "search.rounds=1", "search.switches=[2]",
    "search.drops=[0.1]", "search.max_new_tokens=4", "evaluation.summarization.limit=2",
    "evaluation.summarization.max_new_tokens=4",
)  # fmt: skip
SPEED = (
    "decomposition=selection", "method=svdllm", "evaluation.efficiency.new_tokens=2",
    "evaluation.efficiency.repeats=1", "evaluation.efficiency.batch_sizes=[1]",
)  # fmt: skip
FEWER = {"ours": "dense,kfac", "search_time": "flra,asvd_alloc", "stability": "dense,svdllm"}
"""Studies of many methods, each of which runs in tests of its own."""
QUICK = {"figure02", "table05", "table06"}
"""Those that share nothing; the others take minutes together and run with the slow tests."""
PREFILL = {"table02", "table09", "skipcat", "ours"}
TEXT = {"table06", "table14", "figure02", "search_time", "stability"}


def tiny(study: str) -> list[str]:
    """The study's command, restricted to one rate and to sizes that take a second per job."""
    line = [f"experiment={study}", *TINY, "rate=0.2"]
    if study in {"table11", "table12"}:
        return [*line, *SPEED, *(["runtime.budget=0.9"] if study == "table12" else [])]
    line += CALIBRATION
    line += [f"method={FEWER[study]}"] if study in FEWER else []
    if study in PREFILL:
        return [*line, *PERPLEXITY, *ZEROSHOT]
    if study in TEXT:
        return [*line, *PERPLEXITY, *(["seed=0"] if study == "stability" else [])]
    return [*line, *REPLIES, *(PERPLEXITY if study == "table10" else ())]


class StudyPlace(Place):
    """One cache and one folder of runs for all studies, which share what they can."""

    def line(self, *arguments: str) -> list[str]:
        """Only folders are added: a study has its own settings."""
        folders = (f"data.root={self.data}", f"paths.runs={self.runs}", f"paths.cache={self.cache}")
        return [*arguments, *folders]


@pytest.fixture(scope="module")
def studies_place(tmp_path_factory: pytest.TempPathFactory) -> StudyPlace:
    """Where all studies run: every data set of the paper, the sample's items under their names."""
    data = tmp_path_factory.mktemp("data")
    write_data(data)
    for name in CHOICES:
        shutil.copytree(SAMPLE / name, data / name)
    shutil.copytree(SAMPLE / "articles", data / "cnn_dailymail")
    shutil.copy(data / "cnn_dailymail" / "validation.jsonl", data / "cnn_dailymail" / "train.jsonl")
    return StudyPlace(tmp_path_factory.mktemp("studies"), data)


@pytest.mark.parametrize(
    "study",
    [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in STUDIES],
)
def test_a_study_runs_at_tiny_scale_and_ends_in_its_table(
    study: str, call: Call, studies_place: StudyPlace
) -> None:
    ended = call(*tiny(study), at=studies_place)
    assert ended.code == 0, ended.text[-3000:]
    folder = studies_place.runs / "studies" / f"{study}-small"
    jobs = read(folder / "jobs.json")["jobs"]
    assert jobs
    for job in jobs:
        record = jsonfile.read(studies_place.runs / job["folder"] / "record.json")
        assert record["run"]["status"] == "ok"
        assert record["run"]["id"] == job["run"]
        assert set(job["measurements"]) <= {m["name"] for m in record["results"]["measurements"]}
    shown = ended.out.split("runs:\n")[1]
    for job in jobs[: 0 if len(jobs) > MOST_LINES else None]:
        assert f"  {job['run']}  {studies_place.runs / job['folder']}  (" in shown
    assert f"flrc.records show {jobs[-1]['run']} --runs {studies_place.runs}\n" in shown
    page = (folder / "table.md").read_text("utf-8")
    for job in jobs:
        assert f"[{job['run']}](" in page
    rows = list(csv.DictReader((folder / "table.csv").read_text("utf-8").splitlines()))
    ours = {(row["runs"], row["measurement"]) for row in rows if row["source"] == "here"}
    for job in [] if study == "figure02" else jobs:  # figure02 has one line per layer instead
        for name in job["measurements"]:
            assert any(job["run"] in runs and name == found for runs, found in ours), (job, name)


def test_a_removed_record_is_computed_again_and_nothing_else(
    call: Call, studies_place: StudyPlace
) -> None:
    line = tiny("table06")
    assert call(*line, at=studies_place).code == 0
    folder = studies_place.runs / "studies" / "table06-small"
    jobs = read(folder / "jobs.json")["jobs"]
    before = {name: (folder / name).read_text("utf-8") for name in ("table.csv", "jobs.json")}
    gone, kept = (studies_place.runs / job["folder"] for job in jobs[:2])
    stamp = (kept / "record.json").stat().st_mtime_ns
    shutil.rmtree(gone)
    assert call(*line, at=studies_place).code == 0
    assert (kept / "record.json").stat().st_mtime_ns == stamp
    assert (gone / "record.json").is_file()
    assert {name: (folder / name).read_text("utf-8") for name in before} == before | {
        "table.csv": without_seconds(folder / "table.csv", before["table.csv"])
    }


def without_seconds(path: Path, before: str) -> str:
    """The new file if it differs from the old one only in measured times."""
    now = path.read_text("utf-8")

    def lines(text: str) -> list[str]:
        return [line for line in text.splitlines() if "seconds" not in line]

    assert lines(now) == lines(before)
    return now


@pytest.mark.parametrize("scale", [pytest.param("small", marks=pytest.mark.slow), "paper"])
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_composes_at_both_scales(study: str, scale: str) -> None:
    """The first job of the grid, without a model or data."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from flrc.config import RunConfig, register

    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        line = [f"experiment={study}", f"scale={scale}"]
        line += ["data.root=/data"] if scale == "small" else []
        whole = compose("config", overrides=line, return_hydra_config=True)
        grid = OmegaConf.to_container(whole.hydra.sweeper.params, resolve=True)
        assert isinstance(grid, dict)
        first = [f"{key}={str(values).split(',')[0]}" for key, values in grid.items()]
        config = OmegaConf.to_object(compose("config", overrides=[*line, *first]))
    assert isinstance(config, RunConfig)
    assert (config.study, config.scale) == (study, scale)
    assert config.data.name == {"small": "folder", "paper": "hub"}[scale]
    assert (config.model.name == "hub") == (scale == "paper")
    if scale == "paper" and study not in {"table11", "table12", "stability"}:
        calibration = config.calibration
        assert (calibration.samples, calibration.length) == (256, 2048)  # type: ignore[attr-defined]
