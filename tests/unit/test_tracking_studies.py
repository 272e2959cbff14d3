"""A study's page in W&B: as rendered, once, and never at the expense of a run."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import study_factory
import yaml
from records_factory import measurement, record
from rich.console import Console
from wandb_files import no_account, read_back, tables, whole

from flrc.config import RunConfig
from flrc.core import jsonfile
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder
from flrc.results.studies.manifest import manifest_folder
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import read_study_of_runs
from flrc.results.tables.facts import facts_of
from flrc.results.tables.grid import MISSING
from flrc.sweeps import command_line
from flrc.sweeps import report as sweeps_report
from flrc.sweeps.job import study_job
from flrc.sweeps.job_log import JobEntry, JobLog, StudyJob
from flrc.sweeps.published import published_lines
from flrc.sweeps.study_report import report_study
from flrc.tracking.__main__ import main
from flrc.tracking.base import from_plain
from flrc.tracking.none import NoTracker
from flrc.tracking.run_page import SAMPLE_COLUMNS
from flrc.tracking.wandb import Wandb

pytest.importorskip("wandb")

TRACKER = {"name": "wandb", "project": "test", "entity": None, "mode": "offline"}
LAYOUT: dict[str, Any] = study_factory.LAYOUT | {
    "columns": [
        {"name": "wikitext2/perplexity", "title": "Wiki2"},
        {"name": "c4/perplexity", "title": "C4"},
    ],
    "labels": {},
    "read_as": {},
}
EXPECTED: dict[str, Any] = study_factory.EXPECTED | {"rows": study_factory.EXPECTED["rows"][1:]}
DIALOGUE = "Anna: did you feed the heron?"
ANSWERED = [measurement("dialogsum/rougeL", 12.5, 0.2)]


def entry(made: Record, runs: Path, tracker: dict[str, Any] = TRACKER) -> JobEntry:
    """What a job of the sweep adds to the job log."""
    folder = f"smollm2_135m/{made.run['id']}"
    return JobEntry(
        status=made.run["status"],
        folder=str(runs / folder),
        measurements=["wikitext2/perplexity", "c4/perplexity", "dialogsum/rougeL"],
        overrides=f"method={made.run['method']}",
        runs=str(runs),
        study=StudyJob(
            study="table99",
            scale="small",
            run=made.run["id"],
            place=folder,
            facts=facts_of(made.run["config"]),
            seed=0,
            tracker=tracker,
        ),
    )


def report(experiments: Path, jobs: list[JobEntry]) -> None:
    console = Console(file=io.StringIO(), width=120)
    report_study(jobs, experiments, ["experiment=table99"], console)


def published(runs: Path, ending: str) -> Path:
    (file,) = (runs / "wandb").glob(f"offline-run-*/run-{ending}.wandb")
    return file


def state(runs: Path) -> dict[str, bytes]:
    """Everything that publishing writes: W&B's folders and the log of what was sent."""
    return {
        str(path.relative_to(runs)): path.read_bytes()
        for path in [*(runs / "wandb").rglob("*"), *runs.rglob("published.json")]
        if path.is_file() and not path.is_symlink()
    }


STUDY = hashlib.sha256(b'{"scale":"small","study":"table99"}').hexdigest()[:10]


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_account(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "experiments"
    (folder / "table99").mkdir(parents=True)
    for name, values in (("table", LAYOUT), ("expected", EXPECTED)):
        (folder / "table99" / f"{name}.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return folder


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """One computed by this study, one by another, one by none and with replies."""
    base = [measurement("wikitext2/perplexity", 90.125, 0.2, stderr=1 / 3)]
    return [
        record("svdllm", 0.2, study="table99", config={"scale": "small"}, measurements=base),
        record("flrc", 0.2, study="table01", config={"scale": "small"},
               measurements=[measurement("wikitext2/perplexity", 100 / 3, 0.2), *ANSWERED]),
        record("kfac", 0.2, study="adhoc", measurements=base),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory, experiments: Path, records: list[Record]
) -> Path:
    """A folder of runs after a sweep of two of the records; do not change it."""
    runs = tmp_path_factory.mktemp("swept") / "runs"
    for made in records:
        RunFolder(runs / "smollm2_135m" / made.run["id"]).write_record(made)
    of = RunFolder(runs / "smollm2_135m" / records[1].run["id"])
    ids = [f"test_{n}" for n in range(12)]
    items = [{"id": i, "reply": f"reply to {i}", "tokens": [1], "rougeL": 0.5 * n,
              "bertscore_f1": 40.0, "dense_agreement": 1.0, "dialogue": DIALOGUE,
              "reference": DIALOGUE} for n, i in enumerate(ids)]  # fmt: skip
    for name, measured in (("now", ANSWERED), ("old", [measurement("dialogsum/rougeL", 3.0, 0.2)])):
        of.write_json(f"evaluations/summarization.dialogsum-{name}.json", {
            "settings": {"dataset": "dialogsum"}, "measurements": measured,
            "items": sorted(items, key=lambda item: item["id"])})  # fmt: skip
    report(experiments, [entry(made, runs) for made in records[:2]])
    for file in (runs / "wandb").glob("offline-run-*/run-*.wandb"):
        whole(file)
    return runs


@pytest.fixture
def again(swept: Path, tmp_path: Path) -> Path:
    """A copy of ``swept`` that may be changed."""
    return Path(shutil.copytree(swept, tmp_path / "runs", symlinks=True))


@pytest.fixture
def publish(experiments: Path) -> Callable[..., int]:
    """The command line, offline."""

    def call(runs: Path, *more: str) -> int:
        return main(["publish", str(runs), "--mode", "offline", "--project", "test",
                     "--experiments", str(experiments), *more])  # fmt: skip

    return call


def test_a_sweep_leaves_a_page_of_the_study_and_of_its_runs(
    swept: Path, records: list[Record]
) -> None:
    run, config, summary = read_back(published(swept, STUDY))
    assert (run.run_id, run.display_name) == (STUDY, "table99-small")
    assert (run.run_group, run.job_type) == ("table99", "study")
    assert config["runs"] == sorted(config["runs"], key=config["runs"].index)
    assert set(config["runs"]) == {made.run["id"] for made in records[:2]}
    assert summary["runs"] == 2
    assert {k: v for k, v in summary.items() if k.startswith("claims/")} == {
        "claims/holds": 1,
        "claims/not_separated": 0,
        "claims/not_separated_reversed": 0,
        "claims/does_not_hold": 0,
        "claims/a_number_is_not_finite": 0,
    }
    assert len(list((swept / "wandb").glob("offline-run-*"))) == 3
    tags = [set(read_back(published(swept, made.run["id"]))[0].tags) for made in records[:2]]
    assert "study:table99" in tags[0]
    assert {"study:table99", "study:table01"} <= tags[1]


def test_the_numbers_are_those_of_the_files(swept: Path, experiments: Path) -> None:
    rendered = manifest_folder(swept, "table99", "small")
    found = tables(published(swept, STUDY))
    with (rendered / "table.csv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert found["numbers"]["columns"] == lines[0]
    as_text = [["" if c is None else c for c in row] for row in found["numbers"]["data"]]
    assert [[str(c) for c in row] for row in as_text] == lines[1:]
    values = {row[lines[0].index("value")] for row in found["numbers"]["data"]}
    assert {90.125, 100 / 3, 12.5, 14.0} <= values  # numbers, at full precision

    study = read_study_of_runs(swept, "table99", "small", experiments)
    assert study is not None
    keys = ("table", "measured_beside_it", "the_paper", "what_the_paper_says")
    assert set(found) == {*keys, "numbers"}
    for key, section in zip(keys, sections_of(study), strict=True):
        assert section.grid is not None
        titles = [*section.grid.label_titles, *(c.title for c in section.grid.columns)]
        assert found[key]["columns"] == titles
        without_notes = [[c.partition(" [")[0] for c in row] for row in found[key]["data"]]
        assert without_notes == [
            [*row.labels, *(cell.text for cell in row.cells)] for row in section.grid.rows
        ]
    page_of = (rendered / "table.md").read_text("utf-8")
    for row in found["table"]["data"]:
        assert all(cell in page_of for cell in row)
    assert found["table"]["data"][0][:5] == ["20 %", "flrc", "33.33", f"{MISSING} [1]", "0.80"]
    notes = read_back(published(swept, STUDY))[0].notes
    assert "FLRC is ahead" in notes
    assert "- [1] not measured yet: python run.py method=flrc" in notes


def test_the_plots_are_those_of_the_folder(swept: Path) -> None:
    file = published(swept, STUDY)
    shown = read_back(file)[2]["plots/quality/path"]
    picture = manifest_folder(swept, "table99", "small") / "quality.png"
    assert (file.parent / "files" / shown).read_bytes() == picture.read_bytes()


def test_samples_are_the_first_replies_and_nothing_of_the_data_set(
    swept: Path, records: list[Record]
) -> None:
    file = published(swept, records[1].run["id"])
    samples = tables(file)["samples"]
    assert samples["columns"] == ["dataset", *SAMPLE_COLUMNS]
    assert samples["data"] == [
        ["dialogsum", f"test_{n}", f"reply to test_{n}", 0.5 * n, 40.0, 1.0] for n in range(8)
    ]  # in the order of the numbers, of the evaluation behind the record only
    for path in (swept / "wandb").rglob("*"):
        assert not path.is_file() or DIALOGUE.encode() not in path.read_bytes()
    assert "samples" not in tables(published(swept, records[0].run["id"]))


def test_publishing_again_changes_nothing(
    again: Path, publish: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(again)
    assert publish(again, "--study", "table99") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 finished records are published" in said  # table01's too: jobs.json names it
    assert "1 of 1 studies' pages are published" in said
    assert state(again) == before
    assert publish(again, "--study", "table99", "--scale", "paper") == 1  # it does not exist
    assert state(again) == before


def test_a_changed_record_replaces_its_page_and_the_studys(
    again: Path, publish: Callable[..., int], records: list[Record]
) -> None:
    changed, same = records[0].run["id"], records[1].run["id"]
    before = {name: published(again, name) for name in (STUDY, changed, same)}
    of = RunFolder(again / "smollm2_135m" / changed)
    made = of.read_record()
    assert made is not None
    made.results["measurements"][0]["value"] = 20.5
    of.write_record(made)
    assert publish(again, "--study", "table99", "--scale", "small") == 0
    assert published(again, same) == before[same]
    _, _, summary = read_back(published(again, STUDY))
    assert summary["claims/holds"] == 0
    assert summary["claims/does_not_hold"] == 1
    numbers = tables(published(again, STUDY))["numbers"]
    column = numbers["columns"].index("value")
    assert 20.5 in [row[column] for row in numbers["data"]]
    assert 90.125 not in [row[column] for row in numbers["data"]]


def test_a_failure_of_wandb_costs_neither_the_table_nor_the_sweep(
    tmp_path: Path,
    experiments: Path,
    records: list[Record],
    publish: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import wandb

    asked = []

    def refuse(**options: Any) -> None:
        asked.append(options["id"])
        raise wandb.errors.CommError("server is down")

    monkeypatch.setattr(wandb, "init", refuse)
    runs = tmp_path / "some runs"
    for made in records[:2]:
        RunFolder(runs / "smollm2_135m" / made.run["id"]).write_record(made)
    entries = [entry(made, runs) for made in records[:2]]
    monkeypatch.setattr(JobLog, "entries", lambda _: entries)
    monkeypatch.setattr("flrc.sweeps.command_line.check_overrides", lambda *_: None)
    with caplog.at_level(logging.WARNING):
        conf = str(experiments.parent / "conf")
        line = ["experiment=table99", f"paths.runs={runs}"]
        assert command_line.sweep(lambda: None, conf, line) == 0
    assert (manifest_folder(runs, "table99", "small") / "table.csv").is_file()
    assert not list(runs.rglob("published.json"))
    assert asked == [STUDY]  # not once more for every run
    assert "server is down" in caplog.text
    later = f"publish '{runs}' --study table99 --scale small --project test"
    assert later in caplog.text
    assert publish(runs, "--study", "table99") == 1


def test_online_a_study_sends_the_runs_that_changed_only(
    again: Path, experiments: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    asked = []

    def init(**options: Any) -> Any:
        asked.append((options["mode"], options["id"]))
        run = MagicMock()
        run.__enter__.return_value.configure_mock(dir=str(again), url=f"https://w/{options['id']}")
        return run

    monkeypatch.setattr(wandb, "init", init)
    tracker = {**TRACKER, "mode": "online"}
    for _ in range(2):
        report(experiments, [entry(made, again, tracker) for made in records[:2]])
    runs = [made.run["id"] for made in records[:2]]
    assert asked == [("online", each) for each in (STUDY, *runs, STUDY)]
    of = RunFolder(again / "smollm2_135m" / runs[1])
    changed = copy.deepcopy(records[1])
    changed.results["layers"][0]["rank"] += 1
    of.write_record(changed)
    report(experiments, [entry(made, again, tracker) for made in records[:2]])
    assert asked[4:] == [("online", STUDY), ("online", runs[1])]


def test_a_command_ends_with_where_its_runs_and_their_study_are(
    again: Path,
    experiments: Path,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(again.parent)
    entries = [replace(entry(made, again), tracker=TRACKER) for made in records[:2]]
    assert sweeps_report.report(entries, experiments, ["experiment=table99"]) == 0
    files = [published(again, name).parent.name for name in (STUDY, *ids(records[:2]))]
    said = capsys.readouterr().out.splitlines()
    (table, *_) = rendered(said)
    assert table == "runs/studies/table99-small/table.md"
    assert said[-2:] == [
        "W&B, offline in runs/wandb; this uploads it:",
        f"  wandb sync {' '.join(f'runs/wandb/{file}' for file in files)}",
    ]
    assert published_lines([replace(e, tracker={}) for e in entries]) == [], "none was sent"
    outside = [replace(e, study=None) for e in entries[:1]]
    sweeps_report.report(outside, experiments, [])
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"  wandb sync runs/wandb/{files[1]}"
    assert all(path.startswith("runs/tables/") for path in rendered(said))
    none = asdict(NoTracker())
    assert published_lines([replace(e, tracker=none) for e in outside]) == []


def rendered(said: list[str]) -> list[str]:
    """The files that a command wrote, as it names them; all exist."""
    (line,) = (line for line in said if line.startswith("rendered in "))
    folder, _, names = line.removeprefix("rendered in ").partition(": ")
    paths = [f"{folder}/{name}" for name in names.split(", ")]
    assert all(Path(path).is_file() for path in paths)
    return paths


def ids(records: list[Record]) -> list[str]:
    return [made.run["id"] for made in records]


def test_the_job_log_carries_the_tracker(run_config: Callable[..., RunConfig]) -> None:
    config = run_config("tracker=wandb", "tracker.project=mine", "scale=small", "study=table99")
    logged = JobEntry.from_line(JobEntry("ok", study=study_job(config)).to_line())
    assert logged.study is not None
    assert from_plain(logged.study.tracker) == Wandb(project="mine")
    assert from_plain(asdict(run_config().tracker)).name == "none"


def test_an_id_depends_on_study_and_scale_only() -> None:
    assert jsonfile.digest({"study": "table99", "scale": "small"}) == STUDY
