"""Publishing to W&B, offline, with W&B itself; its files are read back."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import records_factory as factory
from wandb_files import no_account, read_back

from flrc.core.component import discover
from flrc.errors import UserError
from flrc.results.records.checkpoint_places import PLACES, without_places
from flrc.results.records.record import Record
from flrc.results.records.sharing import shareable
from flrc.results.records.store import RunFolder
from flrc.tracking.__main__ import main
from flrc.tracking.base import Tracker
from flrc.tracking.page_ids import page_id
from flrc.tracking.run_page import run_page
from flrc.tracking.wandb import Wandb, _resolved

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_account(monkeypatch, tmp_path)


def keep(runs: Path, record: Record) -> Path:
    folder = runs / "smollm2_135m" / f"run-{record.run['id']}"
    RunFolder(folder).write_record(record)
    return folder


def test_two_runs_of_one_process_are_two_pages(tmp_path: Path) -> None:
    tracker = Wandb(project="test", mode="offline")
    records = [factory.record("svdllm", 0.2, study="table02"), factory.record("kfac", 0.3)]
    for record in records:
        tracker.publish(record, keep(tmp_path, record))
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert sorted(f.name for f in files) == sorted(f"run-{r.run['id']}.wandb" for r in records)
    for record in records:
        (file,) = (f for f in files if record.run["id"] in f.name)
        run, config, summary = read_back(file)
        assert run.run_id == record.run["id"]
        assert run.project == "test"
        assert run.run_group == (record.run["study"] or "")
        assert "decomposition:" + record.run["components"]["decomposition"] in run.tags
        assert config["calibration"] == {"name": "text", "samples": 16, "length": 512}
        assert config["rate"] == record.run["config"]["rate"]
        assert config["meta"]["versions"]["torch"] == "2.13.0"
        assert summary["wikitext2/perplexity"] == record.measurements[0].value
        assert summary["parameters/targets_dense"] == factory.DENSE
        assert summary["seconds/decomposition"] == 12.5
        (table,) = file.parent.glob("files/media/table/layers*.json")
        content = json.loads(table.read_text())
        assert content["columns"] == ["target", "block", "shape", "rank", "relative_error"]
        assert content["data"][1] == ["block.0.k_proj", 1 - 1, "[192, 576]", None, 0.0]


def test_nothing_that_leaves_the_machine_says_where_its_checkpoints_are(tmp_path: Path) -> None:
    record = factory.record()
    others = dict(record.meta)
    record.meta[PLACES] = [{"folder": "/home/me/out", "digest": "0"}]
    assert without_places(record.meta) == others
    assert PLACES in record.meta
    assert PLACES not in shareable(record).meta
    folder = keep(tmp_path, record)
    assert PLACES not in run_page(record, folder).config["meta"]


def test_publishing_twice_leaves_one_page_and_a_change_replaces_it(tmp_path: Path) -> None:
    record = factory.record()
    folder = keep(tmp_path, record)
    tracker = Wandb(mode="offline")
    tracker.publish(record, folder)
    (first,) = (tmp_path / "wandb").glob("offline-run-*")
    tracker.publish(record, folder)
    assert list((tmp_path / "wandb").glob("offline-run-*")) == [first]
    (entry,) = json.loads((folder / "published.json").read_text()).values()
    assert entry["mode"] == "offline"
    assert tmp_path / entry["files"] == first
    record.results["measurements"][0]["value"] = 7.0
    tracker.publish(record, folder)
    (second,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert read_back(second)[2]["wikitext2/perplexity"] == 7.0


def labelled(runs: Path, label: str, **given: Any) -> tuple[Record, Path]:
    """A run of the same weights under this label: the id is the same for all labels."""
    record = factory.record(model=label, **given)
    record.run["id"] = "0123456789"
    folder = runs / label / "svd-uniform-constant-r0.2-0123456789"
    RunFolder(folder).write_record(record)
    return record, folder


def pages(runs: Path) -> dict[str, str]:
    """The id of every page, by its name."""
    files = (runs / "wandb").glob("offline-run-*/run-*.wandb")
    return {run.display_name: run.run_id for run, _, _ in map(read_back, files)}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_equal_weights_under_two_labels_are_two_pages(
    order: tuple[str, str], tmp_path: Path
) -> None:
    tracker = Wandb(mode="offline")
    runs = {}
    for label in order:  # each is published before the other exists
        runs[label] = labelled(tmp_path, label)
        assert tracker.publish(*runs[label])
    first, second = (f"{label}/{runs[label][1].name}" for label in order)
    before = pages(tmp_path)
    assert before[first] == "0123456789", "as if there were no other label"
    assert before[second].startswith("0123456789-")
    for label in order[::-1]:
        runs[label][0].results["measurements"][0]["value"] = 7.0
        assert tracker.publish(*runs[label])
        assert Wandb(mode="offline", project="other").publish(*runs[label])
    found = [read_back(f) for f in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len(found) == 4
    for run, _, summary in found:
        assert run.run_id == before[run.display_name]
        assert summary["wikitext2/perplexity"] == 7.0


def test_two_labels_that_are_published_at_the_same_time(tmp_path: Path) -> None:
    """Both exist, neither is published; a run that failed never will be."""
    failed = labelled(tmp_path, "a", status="failed")
    (tmp_path / "d" / failed[1].name).mkdir(parents=True)  # it is running
    b, c = labelled(tmp_path, "b"), labelled(tmp_path, "c")
    assert page_id(*b) == "0123456789"
    assert page_id(*c) not in (page_id(*b), page_id(*labelled(tmp_path, "e")))


def test_two_labels_that_an_earlier_version_gave_one_page(tmp_path: Path) -> None:
    runs = [labelled(tmp_path, label) for label in ("a", "b")]
    for record, folder in runs:
        assert Wandb(mode="offline").publish(record, folder)
        sent = json.loads((folder / "published.json").read_text())
        old = {key: {k: v for k, v in place.items() if k != "page"} for key, place in sent.items()}
        (folder / "published.json").write_text(json.dumps(old))
    for order in (runs, runs[::-1]):
        a, b = sorted((page_id(*run), run[1].parent.name) for run in order)
        assert (a, b[1]) == (("0123456789", "a"), "b")
        assert b[0].startswith("0123456789-")
    shutil.rmtree(runs[0][1])
    assert page_id(*runs[1]) == "0123456789", "the only label keeps its page"


def test_only_finished_runs_are_sent(tmp_path: Path) -> None:
    record = factory.record(status="failed")
    Wandb(mode="offline").publish(record, keep(tmp_path, record))
    assert not (tmp_path / "wandb").exists()


def test_a_failure_of_wandb_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def refuse(**_: Any) -> None:
        raise wandb.errors.CommError("server is down")

    monkeypatch.setattr(wandb, "init", refuse)
    record = factory.record()
    folder = keep(tmp_path, record)
    with caplog.at_level(logging.WARNING):
        assert not Wandb(mode="offline").publish(record, folder)
    assert "server is down" in caplog.text
    assert RunFolder(folder).read_record() is not None
    assert not (folder / "published.json").exists()
    assert main(["publish", str(tmp_path), "--mode", "offline"]) == 1


def test_an_outage_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    asked: list[float] = []

    def silent(**options: Any) -> None:
        asked.append(options["settings"].init_timeout)
        raise wandb.errors.CommError("no answer")

    records = [factory.record(rate=rate) for rate in (0.1, 0.2, 0.3)]
    folders = [keep(tmp_path, record) for record in records]
    with monkeypatch.context() as outage, caplog.at_level(logging.WARNING):
        outage.setattr(wandb, "init", silent)
        for record, folder in zip(records, folders, strict=True):
            Wandb(mode="online").publish(record, folder)
        assert asked == [30.0]
        assert caplog.text.count("was not sent to W&B") == 3
        assert caplog.text.count("it did not answer 0 s ago") == 2
        Wandb(mode="offline").publish(records[0], folders[0])
        assert asked == [30.0] * 2, "files need no answer"
        assert main(["publish", str(tmp_path), "--mode", "online"]) == 1
        assert asked == [30.0] * 3, "who asks for it is not put off, but once"
        (marker,) = tmp_path.glob("wandb/no-answer")
        os.utime(marker, (0, time.time() - 601))
        Wandb(mode="online").publish(records[0], folders[0])
        assert asked == [30.0] * 4
    real = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: real(**{**given, "mode": "offline"}))
    os.utime(marker, (0, time.time() - 601))
    assert Wandb(mode="online").publish(records[0], folders[0])
    assert not marker.exists(), "it has answered"


def test_online_is_sent_with_the_runs_id_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    real, calls = wandb.init, []

    def init(**options: Any) -> Any:
        calls.append((options["mode"], options["id"], options["reinit"]))
        return real(**{**options, "mode": "offline"})

    monkeypatch.setattr(wandb, "init", init)
    record = factory.record()
    folder = keep(tmp_path, record)
    for _ in range(2):
        Wandb(mode="online").publish(record, folder)
    assert calls == [("online", record.run["id"], "finish_previous")] * 2


URL = "https://wandb.ai/me/test/runs/"


def answer(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An online W&B that gives every page a URL."""
    import wandb

    def init(**options: Any) -> Any:
        run = MagicMock()
        run.__enter__.return_value.configure_mock(dir=str(folder), url=URL + options["id"])
        return run

    monkeypatch.setattr(wandb, "init", init)


def test_online_every_page_has_its_url_and_of_many_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, tmp_path)
    tracker = Wandb(mode="online", project="test")
    records = [factory.record(rate=rate / 100) for rate in range(10)]
    folders = [keep(tmp_path, record) for record in records]
    assert tracker.places(folders) == [], "nothing is sent yet"
    for record, folder in zip(records, folders, strict=True):
        assert tracker.publish(record, folder)
    urls = [f"  {URL}{record.run['id']}" for record in records]
    assert tracker.places(folders[:2]) == ["W&B:", *urls[:2]]
    more = "  and 2 more in https://wandb.ai/me/test"
    assert tracker.places(folders) == ["W&B:", *urls[:8], more]
    assert Wandb(mode="offline", project="test").places(folders) == []
    assert Wandb(mode="online", project="other").places(folders) == []
    # A key that a job on another machine found need not be known here.
    assert Wandb(mode="auto", project="test").places(folders[:1]) == ["W&B:", urls[0]]


def test_offline_the_command_uploads_the_same_folders_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "my runs"
    tracker = Wandb(mode="offline")
    records = [factory.record(rate=rate) for rate in (0.1, 0.2, 0.3)]
    folders = [keep(runs, record) for record in records]
    for record, folder in zip(records, folders, strict=True):
        assert tracker.publish(record, folder)
    files = [next((runs / "wandb").glob(f"offline-run-*-{r.run['id']}")) for r in records]

    monkeypatch.chdir(tmp_path)
    head, command = tracker.places(folders[:2])
    assert head == "W&B, offline in my runs/wandb; this uploads it:"
    assert shlex.split(command) == [
        "wandb",
        "sync",
        *(f"my runs/wandb/{f.name}" for f in files[:2]),
    ]
    found = wandb_sync(command, tmp_path)
    assert all(file.name in found for file in files[:2])
    assert "Would sync 2 run(s)" in found
    monkeypatch.chdir(folders[0])
    assert shlex.split(tracker.places(folders)[1])[2:] == list(map(str, files))

    monkeypatch.setattr("flrc.tracking.wandb.LISTED", 2)
    monkeypatch.chdir(tmp_path)
    command = tracker.places(folders)[1]
    assert command == "  wandb sync 'my runs/wandb'/offline-run-*"
    assert "Would sync 3 run(s)" in wandb_sync(command, tmp_path)
    (runs / "wandb" / "offline-run-of-someone-else").mkdir()
    assert len(shlex.split(tracker.places(folders)[1])) == 5


def wandb_sync(command: str, folder: Path) -> str:
    """What W&B says that a command would upload."""
    python = [sys.executable, "-m", *command.split(maxsplit=2)[:2]]
    line = f"{shlex.join(python)} --dry-run {command.split(maxsplit=2)[2]}"
    ended = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    return ended.stdout + ended.stderr


def test_publishing_ends_with_where_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = factory.record()
    keep(tmp_path / "runs", record)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # what is sent already is named too
        assert main(["publish", "runs", "--mode", "offline"]) == 0
        (file,) = (tmp_path / "runs" / "wandb").glob("offline-run-*")
        assert capsys.readouterr().out.splitlines()[-2:] == [
            "W&B, offline in runs/wandb; this uploads it:",
            f"  wandb sync runs/wandb/{file.name}",
        ]
    answer(monkeypatch, tmp_path)
    assert main(["publish", "runs", "--mode", "online"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["W&B:", f"  {URL}{record.run['id']}"]


def test_auto_is_offline_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _resolved("auto") == "offline"
    file = tmp_path / "netrc"
    file.write_text("machine api.wandb.ai\n  login user\n  password x\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert _resolved("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert _resolved("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert _resolved("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert _resolved("auto") == "offline"
    assert _resolved("online") == "online"


def test_components_are_found_and_checked() -> None:
    assert set(discover("flrc.tracking", Tracker)) == {"none", "wandb"}
    with pytest.raises(UserError, match="mode is out of range"):
        Wandb(mode="later")


def test_command_line_sends_a_study_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate, study in ((0.1, "a"), (0.2, "b")):
        keep(tmp_path, factory.record(rate=rate, study=study))
    keep(tmp_path, factory.record(rate=0.3, study="a", status="failed"))
    arguments = ["publish", str(tmp_path), "--study", "a", "--mode", "offline"]
    for _ in range(2):
        assert main(arguments) == 0
        assert "1 of 1 finished records are published" in capsys.readouterr().out
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    assert main(["publish", str(tmp_path), "--study", "c"]) == 1
    assert "no finished record" in capsys.readouterr().err
