"""``python -m flrc.records``."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
import records_factory as factory
from rich.console import Console

from flrc.records import main
from flrc.results.records.paired import Paired
from flrc.results.records.rows import flatten
from flrc.results.records.show import age, paired
from flrc.results.records.store import RunFolder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for record, run_id in (
        (factory.record("svdllm", 0.2), "aaaa111111"),
        (factory.record("kfac", 0.2, config={"damping": 0.5}), "aabb222222"),
        (factory.record("flrc", 0.3, status="failed", error="[odd] bracket"), "cccc333333"),
    ):
        record.run["id"] = run_id
        RunFolder(tmp_path / "m" / run_id).write_record(record)
    return tmp_path


def call(*arguments: str, width: int = 200) -> tuple[int, str]:
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False)
    return main(arguments, console), text.getvalue()


def test_ls_names_every_run(runs: Path) -> None:
    code, text = call("ls", str(runs))
    assert code == 0
    line = next(line for line in text.splitlines() if "aaaa111111" in line)
    for word in ("svdllm", "smollm2_135m", "0.2", "ok", "wikitext2/perplexity 40"):
        assert word in line
    failed = next(line for line in text.splitlines() if "cccc333333" in line)
    assert "failed" in failed
    assert "decomposition: [odd] bracket" in failed
    assert call("ls", "--runs", str(runs))[1].splitlines()[0] == text.splitlines()[0]


def test_show_has_everything(runs: Path) -> None:
    code, text = call("show", "aaaa", "--runs", str(runs))
    assert code == 0
    for word in (
        "python run.py method=svdllm rate=0.2 seed=0",
        "0123456789abcdef",
        "torch 2.13.0",
        "samples: 16",
        "windows=8",
        "layers of block.0",
        "q_proj ",
        "230",
        "dense",
        "statistics",
        "30.0",
        "1.86 GiB",  # 2e9 bytes
    ):
        assert word in text, word


def test_diff_shows_keys_and_differences_only(runs: Path) -> None:
    path = runs / "m" / "aabb222222"
    record = factory.record("kfac", 0.2, config={"damping": 0.5})
    record.run["id"] = "aabb222222"
    record.results["measurements"][0]["value"] = 30.0
    RunFolder(path).write_record(record)
    code, text = call("diff", "aaaa", "aabb", "--runs", str(runs))
    assert code == 0
    assert "decomposition.name" in text
    assert "damping" in text
    assert "calibration" not in text
    assert "-10 (better)" in text


def test_a_longer_reply_is_neither_better_nor_worse(tmp_path: Path) -> None:
    for run_id, rouge, tokens in (("aaaa111111", 10.0, 40.0), ("bbbb222222", 12.0, 30.0)):
        measured = [
            factory.measurement("dialogsum/rougeL", rouge, 0.2),
            factory.measurement("dialogsum/reply_tokens", tokens, 0.2),
        ]
        record = factory.record("svdllm", measurements=measured)
        record.run["id"] = run_id
        RunFolder(tmp_path / "m" / run_id).write_record(record)
    code, text = call("diff", "aaaa", "bbbb", "--runs", str(tmp_path))
    assert code == 0
    changes = {line.split()[0]: line.split()[3:] for line in text.splitlines() if "/" in line}
    assert changes["dialogsum/rougeL"] == ["+2", "(better)"]
    assert changes["dialogsum/reply_tokens"] == ["-10"]


def test_nothing_is_cut_on_a_narrow_terminal(tmp_path: Path) -> None:
    """Names stay whole; settings stand once below the measurements that share them."""
    ids = ("aaaa111111", "bbbb222222")
    settings = {"dataset": "dialogsum", "data": "d" * 64, "limit": 125}
    for run_id, method in zip(ids, ("svdllm", "flrc"), strict=True):
        measured = [
            factory.measurement(f"dialogsum/{name}", 9.5, 0.2, settings=settings)
            for name in ("rougeL", "dense_agreement")
        ]
        record = factory.record(method, measurements=measured)
        record.run |= {"id": run_id, "method": method.replace("flrc", "flrc_kfac_skip")}
        record.meta["model_revision"] = "e" * 64
        record.results["layers"] = [
            {
                "target": f"model.layers.29.self_attn.{name}",
                "shape": [1536, 576],
                "rank": 230,
                "phase_ranks": [None, 229],
                "score": 1.2345e-5,
                "relative_error": 0.012345,
                "largest_coefficient": 1.2345,
            }
            for name in ("q_proj", "o_proj")
        ]
        RunFolder(tmp_path / "m" / run_id).write_record(record)
    code, shown = call("show", "bbbb", "--runs", str(tmp_path), width=80)
    assert code == 0
    assert "layers of model.layers.29.self_attn" in shown
    assert "dialogsum/dense_agreement  9.5" in shown
    assert shown.count("d" * 64) == 1
    assert "e" * 64 in shown.replace("\n", "").replace(" ", "")
    code, listed = call("ls", str(tmp_path), width=80)
    assert code == 0
    assert "flrc_kfac_skip" in listed
    assert "dialogsum/rougeL 9.5" in listed
    assert "seed" not in listed  # all runs have the same
    code, compared = call("diff", "aaaa", "bbbb", "--runs", str(tmp_path), width=80)
    assert code == 0
    assert all(run_id in compared for run_id in ids)
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown + listed + compared


def test_paired_scores_fit_into_a_narrow_terminal() -> None:
    scores = [
        Paired(f"summarization/dialogsum {name}", 125, 18.03, 17.12, -2.24, 0.372, 0.084)
        for name in ("rougeL", "bertscore_f1")
    ]
    text = io.StringIO()
    Console(file=text, width=80).print(paired(scores, "aaaa111111", "bbbb222222"))
    for word in (
        "dialogsum bertscore_f1",
        "aaaa111111 bbbb222222 difference",
        "resamples in which",
    ):
        assert word in text.getvalue()


def test_unknown_and_ambiguous_ids(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "aabb222333", "--runs", str(runs))[0] == 1
    assert "nearest: aabb222222 (kfac)" in capsys.readouterr().err
    assert call("show", "aa", "--runs", str(runs))[0] == 1
    error = capsys.readouterr().err
    assert "aaaa111111" in error
    assert "aabb222222" in error


def test_an_id_of_several_folders_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal weights under two labels are one computation: one id, and a folder for each."""
    folders = []
    for label, value in (("alpha", 30.0), ("beta", 31.0)):
        measured = [factory.measurement("c4/perplexity", value, 0.2)]
        record = factory.record("svdllm", model=label, measurements=measured)
        record.run["id"] = "aaaa111111"
        folders.append(RunFolder(tmp_path / label / "whitened-aaaa111111"))
        folders[-1].write_record(record)
    for given in ("aaaa111111", "aaaa"):
        assert call("show", given, "--runs", str(tmp_path))[0] == 1
        error = capsys.readouterr().err
        assert "several folders hold a run with this id" in error
        assert all(str(folder.path) in error for folder in folders)
    for folder, label in zip(folders, ("alpha", "beta"), strict=True):
        code, text = call("show", str(folder.path))
        assert (code, label in text) == (0, True)
    code, text = call("diff", *(str(folder.path) for folder in folders))
    assert code == 0
    assert "aaaa111111 (alpha)" in text
    assert "aaaa111111 (beta)" in text
    assert call("ls", str(tmp_path))[1].count("aaaa111111") == 2


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ls", str(tmp_path))[0] == 1
    assert "no record" in capsys.readouterr().err


def test_age_and_flatten() -> None:
    now = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    assert age("2026-03-01T12:00:00+00:00", now) == "1 d"
    assert age("2026-03-02T11:15:00", now) == "45 min"
    assert age(now.timestamp() - 7200, now) == "2 h"
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}


def test_ls_distinguishes_two_models_of_one_name(tmp_path: Path) -> None:
    for seed, revision in enumerate(("aaaaaaaaaaaa", "bbbbbbbbbbbb")):
        record = factory.record("svdllm", seed=seed, model="Llama")
        record.meta["model_revision"] = revision
        RunFolder(tmp_path / f"run-{seed}").write_record(record)
    code, text = call("ls", str(tmp_path))
    assert code == 0
    assert "Llama (aaaaaaaa)" in text
    assert "Llama (bbbbbbbb)" in text


def test_ls_is_in_order_of_time_and_names_what_differs(tmp_path: Path) -> None:
    def saved(method: str, run_id: str, started: str, **config: object) -> None:
        record = factory.record(method, config=config)
        record.run["id"] = run_id
        record.meta["started"] = started
        RunFolder(tmp_path / run_id).write_record(record)

    text = {"name": "text", "samples": 16, "length": 512}
    saved("flrc", "first", "2026-03-01T12:00:00+00:00", quantization={"name": "none", "group": 1})
    saved("flrc", "fourth", "2026-03-04T12:00:00+00:00", quantization={"name": "int8", "bits": 8})
    saved("kfac", "third", "2026-03-02T15:00:00+02:00", calibration={**text, "samples": 64})
    saved("kfac", "second", "2026-03-02T12:30:00+00:00", calibration=text, device="cuda")
    saved("svdllm", "oldest", "2026-02-02T12:00:00+00:00", runtime={"name": "eager"})
    code, shown = call("ls", str(tmp_path))
    assert code == 0
    lines = shown.splitlines()
    ids = [line.split()[0] for line in lines[1:]]
    assert ids == ["oldest", "first", "second", "third", "fourth"]
    assert "quantization=none" in lines[2]
    assert "calibration.samples=16" in lines[3]
    assert "calibration.samples=64" in lines[4]
    assert "quantization=int8" in lines[5]
    assert "=" not in lines[1]  # the only run of its method
    for absent in ("bits", "group", "device", "runtime"):
        assert absent not in shown


def test_ls_names_the_calibration_by_its_option(tmp_path: Path) -> None:
    def saved(method: str, run_id: str, name: str, **more: object) -> None:
        calibration = {"name": name, "samples": 16, "length": 512, **more}
        record = factory.record(method, config={"calibration": calibration})
        record.run["id"] = run_id
        RunFolder(tmp_path / run_id).write_record(record)

    saved("flrc", "one", "text", datasets=["wikitext2"])
    saved("flrc", "two", "mixed")
    saved("kfac", "three", "text", datasets=["c4"])
    saved("kfac", "four", "text", datasets=["wikitext2", "c4"])
    saved("svdllm", "five", "text", datasets=["own"])
    saved("svdllm", "six", "text", datasets=["c4"])
    code, shown = call("ls", str(tmp_path))
    assert code == 0
    settings = {line.split()[0]: line.split()[2] for line in shown.splitlines()[1:]}
    assert settings == {
        "one": "calibration=wikitext2",
        "two": "calibration=mixed",
        "three": "calibration=c4",
        "four": "calibration=wikitext2_c4",
        "five": 'calibration.datasets=["own"]',  # no option has these
        "six": "calibration=c4",
    }
