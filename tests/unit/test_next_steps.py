"""The end of a command: ids, folders and next commands; runs and checkpoints by any of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import records_factory as factory
from checkpoints import built

import flrc
from flrc.chat import main as chat
from flrc.errors import UserError
from flrc.export import main as export
from flrc.form.two_factor import TwoFactor
from flrc.library.checkpoint_folder import checkpoint_folder
from flrc.library.compressed_model import as_model
from flrc.models.checkpoints.checkpoint import Loaded, save
from flrc.records import main as records
from flrc.results.records.lookup import find_run
from flrc.results.records.own_command import own_command
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder
from flrc.schedule.constant import Constant
from flrc.sweeps.next_steps import next_lines, run_lines


def written(root: Path, run_id: str, record: Record) -> tuple[RunFolder, Record]:
    record.run["id"] = run_id
    record.meta["overrides"] = ["method=svdllm", "rate=0.2", "evaluation=[perplexity]"]
    record.meta["command"] = "run.py -m method=svdllm,kfac rate=0.2 evaluation=[perplexity]"
    folder = RunFolder(root / "m" / f"whitened-{run_id}")
    folder.write_record(record)
    return folder, record


OWN = "python run.py method=svdllm rate=0.2 'evaluation=[perplexity]' model.save=true"


def test_a_run_is_told_its_own_command_not_the_sweeps(tmp_path: Path) -> None:
    folder, record = written(tmp_path, "aaaa111111", factory.record("svdllm"))
    assert own_command(record, "model.save=true") == OWN
    for given in (folder.path, "aaaa", "aaaa111111"):
        with pytest.raises(UserError, match="has no checkpoint") as caught:
            flrc.load(given, "cpu", runs=tmp_path)
        assert caught.value.fix == OWN
    record.meta["overrides"].append("model.save=false")
    assert own_command(record, "model.save=true") == OWN
    del record.meta["overrides"]  # an earlier version's
    assert own_command(record, "model.save=true").startswith("python run.py -m method=svdllm,kfac")
    record.meta["command"] = "flrc.compress('m', 'method=flrc')"
    assert "with the overrides model.save=true" in own_command(record, "model.save=true")


def test_a_dense_run_cannot_be_saved(tmp_path: Path) -> None:
    written(tmp_path, "dddd111111", factory.record("dense", 0.0))
    with pytest.raises(UserError, match="nothing was compressed"):
        checkpoint_folder("dddd", tmp_path)


def test_ids_that_are_unknown_or_ambiguous(tmp_path: Path, capsys: Any) -> None:
    written(tmp_path, "aaaa111111", factory.record("svdllm"))
    written(tmp_path, "aaab111111", factory.record("kfac"))
    with pytest.raises(UserError, match="several runs"):
        checkpoint_folder("aaa", tmp_path)
    with pytest.raises(UserError, match=r"nearest: aaab111111 \(kfac\)"):
        checkpoint_folder("aaab111112", tmp_path)
    assert chat(["aaa", "--runs", str(tmp_path)]) == 2
    assert export(["aaa", str(tmp_path / "dense"), "--runs", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("several runs") == 2


def test_the_end_of_a_command_can_be_copied(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    dense = written(root, "dddd111111", factory.record("dense", 0.0))
    run = written(root, "aaaa111111", factory.record("svdllm"))
    failed = written(root, "ffff111111", factory.record("kfac", status="failed"))
    assert run_lines([dense, run, failed], root) == [
        "dddd111111  runs/m/whitened-dddd111111  (dense)",
        "aaaa111111  runs/m/whitened-aaaa111111  (svdllm at rate 0.2)",
    ]
    lines = next_lines([dense, run, failed], root)
    assert lines[0].startswith(OWN)
    assert lines[1:] == ["python -m flrc.records show aaaa111111", "python -m flrc.reporting runs"]
    run[0].write_json("model/flrc.json", {})
    saved = next_lines([run], root)
    assert saved[:2] == [
        "python -m flrc.chat aaaa111111",
        "python -m flrc.export aaaa111111 FOLDER",
    ]
    monkeypatch.chdir(tmp_path / "runs")
    assert next_lines([run], root)[0] == "python -m flrc.chat aaaa111111 --runs ."
    assert next_lines([failed], root) == []


def test_an_id_that_two_folders_share_is_not_what_a_command_is_given(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [
        written(tmp_path / "runs" / label, "aaaa111111", factory.record("svdllm", model=label))
        for label in ("alpha", "beta")
    ]
    root = tmp_path / "runs" / "alpha"
    assert f"python -m flrc.records show aaaa111111 --runs {Path('runs/alpha')}" in next_lines(
        runs[:1], root
    )
    folder = RunFolder(root / "other" / "whitened-aaaa111111")
    folder.write_record(runs[0][1])
    lines = next_lines(runs[:1], root)
    assert f"python -m flrc.records show {Path('runs/alpha/m/whitened-aaaa111111')}" in lines[1]


def test_many_runs_are_counted_and_what_lists_them_is_named(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "my runs"
    runs = [written(root, f"{n:010}", factory.record("svdllm", seed=n)) for n in range(13)]
    assert len(run_lines(runs[:12], root)) == 12
    counted, command = run_lines(runs, root)
    assert counted == f"13 in {root}"
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "flrc.records"]
    assert records(words[3:]) == 0
    assert "0000000012" in capsys.readouterr().out


def test_id_folder_and_checkpoint_are_taken_alike(
    tmp_path: Path, make_model: Any, tokenizer: Any, capsys: Any
) -> None:
    folder, _ = written(tmp_path, "aaaa111111", factory.record("svdllm"))
    model = make_model()
    _, plans = built(model, TwoFactor(), Constant(), False, False)
    save(Loaded(model, tokenizer, plans), folder.model)
    for given in ("aaaa", str(folder.path), str(folder.model), folder.model):
        assert checkpoint_folder(given, tmp_path) == folder.model
        assert find_run(given, tmp_path)[0] == folder
    shown = []
    for given in ("aaaa", str(folder.path), str(folder.model)):
        assert records(["show", given, "--runs", str(tmp_path)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] == shown[2]
    assert flrc.load("aaaa", "cpu", runs=tmp_path).plans == plans


def test_a_checkpoint_that_was_saved_elsewhere_shows_its_record(
    tmp_path: Path, make_model: Any, tokenizer: Any, capsys: Any
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    paths = {"runs": str(runs), "cache": "cache"}
    folder, record = written(runs, "aaaa111111", factory.record("svdllm", config={"paths": paths}))
    model = make_model()
    _, plans = built(model, TwoFactor(), Constant(), False, False)
    flrc.save(as_model(Loaded(model, tokenizer, plans), record), out)
    assert records(["show", str(out), "--runs", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("aaaa111111  svdllm")
    assert "wikitext2/perplexity" in shown
    assert records(["diff", str(out), str(folder.path), "--runs", str(runs)]) == 0
    compared = capsys.readouterr().out
    assert "configuration: no difference" in compared  # not even in its paths
    (out / "flrc_record.json").unlink()
    assert records(["show", str(out), "--runs", str(runs)]) == 1
    assert "saved without the record of its run" in capsys.readouterr().err
