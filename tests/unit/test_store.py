"""The run folder: atomic JSON, locking, evaluations and records that are found again."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import records_factory as factory

from flrc.core import jsonfile
from flrc.errors import UserError
from flrc.results.records.measurement import Measurement, Outcome
from flrc.results.records.store import RunFolder, find_folders, find_records

SETTINGS = {"windows": 4, "length": 2048, "nested": {"a": [1, 2]}}


def outcome(value: float) -> Outcome:
    m = Measurement("wikitext2/perplexity", value, "perplexity", False, None, 4, SETTINGS, 0.2)
    return Outcome([m], [{"id": 0, "text": "NaN", "nll": value}])


def test_folder_name_and_unsafe_model_name() -> None:
    folder = RunFolder.of(
        Path("runs"),
        model="org/model x",
        decomposition="whitened",
        allocator="uniform",
        schedule="constant",
        rate=0.30000000000000004,
        run_id="0123456789",
    )
    assert folder.path == Path("runs/org_model_x/whitened-uniform-constant-r0.3-0123456789")


def test_non_finite_numbers_survive_as_valid_json(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5], "text": "NaN", "none": None}
    jsonfile.write(tmp_path / "x.json", value)

    def refuse(token: str) -> float:
        raise AssertionError(f"{token} is no JSON")

    plain = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert plain["a"] == {"non_finite": "nan"}
    back = jsonfile.read(tmp_path / "x.json")
    assert math.isnan(back["a"])
    assert back["b"] == [math.inf, -math.inf, 1.5]
    assert back["text"] == "NaN"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_plan({"ranks": {"q": 3}})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        folder.write_plan({"ranks": {"q": 4}})
    assert folder.read_json("plan.json") == {"ranks": {"q": 3}}
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(TypeError, match="key must be a string"):
        jsonfile.encode({1: 2})
    with pytest.raises(TypeError, match="Path"):
        jsonfile.encode({"a": Path("x")})


def test_canonical_text_and_digest() -> None:
    assert jsonfile.canonical({"b": (1, 2), "a": 0.5}) == '{"a":0.5,"b":[1,2]}'
    # sha256 of '{}', from coreutils
    assert jsonfile.digest({}) == "44136fa355"


def test_record_round_trip(tmp_path: Path) -> None:
    record = factory.record(measurements=[factory.measurement("c4/perplexity", math.inf, 0.2)])
    folder = RunFolder(tmp_path / "m" / "r")
    assert folder.read_record() is None
    folder.write_record(record)
    back = folder.read_record()
    assert back is not None
    assert back.measurements[0].value == math.inf
    assert back.to_json() == record.to_json()


def test_evaluation_is_found_under_equal_settings_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_evaluation("perplexity", "wikitext2", SETTINGS, outcome(12.5))
    found = folder.load_evaluation("perplexity", "wikitext2", {**SETTINGS, "nested": {"a": (1, 2)}})
    assert found == outcome(12.5)
    assert folder.load_evaluation("perplexity", "wikitext2", {**SETTINGS, "windows": 8}) is None
    assert folder.load_evaluation("perplexity", "c4", SETTINGS) is None
    (path,) = (tmp_path / "evaluations").iterdir()
    assert path.name == f"perplexity.wikitext2-{jsonfile.digest(SETTINGS)}.json"
    keys = ["schema", "status", "evaluation", "part", "settings", "measurements", "items"]
    assert list(json.loads(path.read_text())) == keys


@pytest.mark.parametrize("damage", ["truncated", "status", "settings", "measurement", "list"])
def test_damaged_evaluation_counts_as_missing(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path)
    folder.save_evaluation("perplexity", "wikitext2", SETTINGS, outcome(12.5))
    (path,) = (tmp_path / "evaluations").iterdir()
    text = path.read_text()
    values = json.loads(text)
    if damage == "status":
        values["status"] = "running"
    elif damage == "settings":
        values["settings"]["windows"] = 5
    elif damage == "measurement":
        del values["measurements"][0]["unit"]
    path.write_text(text[:-20] if damage == "truncated" else json.dumps(values))
    if damage == "list":
        path.write_text("[1, 2]")
    with caplog.at_level(logging.WARNING):
        assert folder.load_evaluation("perplexity", "wikitext2", SETTINGS) is None
    assert path.name in caplog.text


def test_unreadable_records_are_skipped_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, rate in (("b", 0.3), ("a", 0.1)):
        RunFolder(tmp_path / "m" / name).write_record(factory.record(rate=rate))
    for name, text in (("broken", '{"schema": 1, "ru'), ("old", '{"schema": 0}'), ("empty", "{}")):
        (tmp_path / "m" / name).mkdir()
        (tmp_path / "m" / name / "record.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        rates = [r.results["rate"]["requested"] for r in find_records(tmp_path)]
    assert rates == [0.1, 0.3]
    for name in ("broken", "old", "empty"):
        assert f"{name}/record.json" in caplog.text.replace("\\", "/")
    assert len(find_records(tmp_path / "m" / "a")) == 1


@pytest.mark.parametrize("model", ["model", "wandb", "evaluations"])
def test_a_model_may_be_called_as_a_folder_of_a_run(tmp_path: Path, model: str) -> None:
    run = RunFolder(tmp_path / model / "whitened-a")
    run.write_record(factory.record(model=model))
    RunFolder(run.path / model).write_record(factory.record(model="inside"))
    assert [folder for folder, _ in find_folders(tmp_path)] == [run]
    assert [folder for folder, _ in find_folders(run.path)] == [run]


def test_what_a_newer_version_wrote_is_neither_read_nor_lost(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "m" / "a")
    folder.write_record(factory.record())
    folder.save_evaluation("perplexity", "wikitext2", SETTINGS, outcome(12.5))
    (part,) = (folder.path / "evaluations").iterdir()
    record = folder.path / "record.json"
    for path, read in (
        (record, folder.read_record),
        (record, lambda: find_records(tmp_path)),
        (part, lambda: folder.load_evaluation("perplexity", "wikitext2", SETTINGS)),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
        with pytest.raises(UserError, match=f"(?s)newer version.*{path.name}: schema 2.*update"):
            read()
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    assert len(find_records(tmp_path)) == 1


def test_missing_runs_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find_records(tmp_path / "nowhere")


def test_lock_excludes_another_process_and_dies_with_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from flrc.results.records.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock():\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), RunFolder(tmp_path).lock(0.1):
            pass
        process.kill()
        process.wait()
    start = time.monotonic()
    with RunFolder(tmp_path).lock(5):
        assert time.monotonic() - start < 4
    with RunFolder(tmp_path).lock(0):
        pass


@pytest.mark.parametrize("label", [".", "..", "../x", "a/../.."])
def test_a_label_never_leads_out_of_the_runs(label: str) -> None:
    parts = {"decomposition": "svd", "allocator": "uniform", "schedule": "constant"}
    folder = RunFolder.of(Path("runs"), model=label, rate=0.2, run_id="0", **parts)
    assert folder.path.parent.parent == Path("runs")
    assert folder.path.parent.name not in (".", "..")
