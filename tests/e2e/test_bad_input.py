"""Mistakes: one clear message, exit code 1, no traceback, and nothing computed."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from running import ROOT, Call, Ended, Place

DiskUsage = namedtuple("DiskUsage", "total used free")

CASES: dict[str, tuple[list[str], list[str]]] = {
    "option of a group": (["method=flcr"], ["flcr", "did you mean flrc? method=flrc"]),
    "option in a sweep": (
        ["-m", "method=flrc,svdlm"],
        ["svdlm", "did you mean svdllm? -m method=flrc,svdllm"],
    ),
    "option in a list": (
        ["evaluation=[perplexity,zeroshots]"],
        ["zeroshots", "did you mean zeroshot?"],
    ),
    "launcher": (["launcher=joblb"], ["joblb", "did you mean joblib?"]),
    "list of methods": (["method=[svdllm,flrc]"], ["-m method=svdllm,flrc", "not a list"]),
    "letters outside of Hydra's": (["data.root=/caf\u00e9"], ["'data.root=\"/caf\u00e9\"'"]),
    "seed": (["seed=99999999999999999999999"], ["seed=99999999999999999999999", "2^63"]),
    "budget of a runtime": (
        ["method=svdllm", "runtime=offload", "runtime.budget=0.1"],
        ["runtime.budget=0.1", "embeddings, norms and head", "fix:     runtime.budget="],
    ),
    "seed of a model": (["model.seed=9223372036854775808"], ["seed=9223372036854775808", "2^63"]),
    "threads": (["threads=100000"], ["threads=100000", "1 to 1024"]),
    "study outside": (["study=../../evil"], ["study=../../evil", "letters, digits"]),
    "no study": (["study="], ["study=", "letters, digits"]),
    "evaluation of a study": (
        ["experiment=table02", "evaluation=[perplexity]"],
        ["settings of zeroshot", "evaluation=[perplexity,zeroshot]"],
    ),
    "no runs": (["paths.runs="], ["paths.runs=", "paths.runs is empty"]),
    "runs in a file": (["paths.runs=/dev/null/runs"], ["paths.runs=/dev/null/runs"]),
    "Hydra's folder in a file": (
        ["hydra.run.dir=/dev/null/run"],
        ["hydra.run.dir cannot be written to", "/dev/null is a file"],
    ),
    "Hydra's sweep in a file": (
        ["-m", "hydra.sweep.dir='/dev/null/sweep'"],
        ["hydra.sweep.dir cannot be written to", "/dev/null is a file"],
    ),
    "cache in a file": (["paths.cache=/dev/null"], ["paths.cache", "/dev/null is a file"]),
    **{
        f"{name} {value}": ([f"paths.{name}={value}"], [f"paths.{name}={value}", "0 or more"])
        for name in ("cache_limit_gb", "keep_statistics_gb", "statistics_memory_gb")
        for value in ("nan", "-1", "inf")
    },
    "no place for a job": (["workers=-1"], ["workers=-1", "0 or more"]),
    "key": (["rte=0.3"], ["rte", "did you mean rate=0.3?"]),
    "nested key": (["calibration.sample=3"], ["calibration.sample", "calibration.samples=3?"]),
    "key of another option": (
        ["method=svdllm", "allocator.floor=0.1"],
        ["fix:     allocator=proportional allocator.floor=0.1"],
    ),
    "group of an evaluation": (
        ["evaluation.zeroshot.limit=3"],
        ["evaluation.zeroshot.limit", "evaluation=[perplexity,", "zeroshot]"],
    ),
    "setting of one evaluation in a sweep": (
        ["-m", "evaluation=[perplexity],[zeroshot]", "evaluation.perplexity.length=64"],
        [
            "evaluation.perplexity.length does not exist in 1 of 2 jobs",
            "job 2 lacks it: evaluation=[zeroshot]",
            "fix:     evaluation=[perplexity] evaluation.perplexity.length=64 in one command, "
            "evaluation=[zeroshot] in another",
        ],
    ),
    "values of a setting of one evaluation": (
        [
            "-m",
            "evaluation=[perplexity],[zeroshot]",
            "evaluation.perplexity.length=64,128",
            "rate=0.2,0.3",
        ],
        [
            "evaluation.perplexity.length does not exist in 4 of 8 jobs",
            "job 5 lacks it: evaluation=[zeroshot] evaluation.perplexity.length=64 rate=0.2;",
            "-m evaluation=[perplexity] evaluation.perplexity.length=64,128 in one command, "
            "-m evaluation=[zeroshot] in another",
        ],
    ),
    "setting of some options in a sweep": (
        ["-m", "method=svdllm", "allocator=uniform,softmax,proportional", "allocator.floor=0.1"],
        [
            "allocator.floor does not exist in 2 of 3 jobs",
            "job 1 lacks it: allocator=uniform; job 2 lacks it: allocator=softmax",
            "fix:     allocator=proportional allocator.floor=0.1 in one command, "
            "-m allocator=uniform,softmax in another",
        ],
    ),
    "rate above 1": (["rate=1.2"], ["rate=1.2", "[0, 1)"]),
    "rate in percent": (["rate=20"], ["rate=20", "fix:     rate=0.2"]),
    "negative rate": (["rate=-0.1"], ["rate=-0.1", "[0, 1)"]),
    "rate that is text": (["rate=abc"], ["rate", "abc"]),
    "rate that is not a number": (["rate=nan"], ["rate=nan", "[0, 1)"]),
    "rate too near the schedule": (
        ["rate=0.05", "search=none"],
        ["rate=0.05", "schedule.offsets="],
    ),
    "dtype": (["dtype=float31"], ["float31", "nearest: float32"]),
    "empty group": (["method="], ["method", "flrc", "svdllm"]),
    "null for a group": (["allocator=null"], ["allocator", "uniform", "proportional"]),
    "two values without -m": (["rate=0.2,0.3"], ["rate=0.2,0.3", "-m rate=0.2,0.3"]),
    "open bracket": (["rate=[0.2"], ["rate=[0.2", "a bracket is not closed"]),
    "no value": (["rate"], ["given:   rate", "KEY=VALUE"]),
    "name by hand": (["allocator.name=uniform"], ["name=uniform", "allocator=uniform"]),
    "nothing to evaluate": (["evaluation=[]"], ["evaluat", "perplexity"]),
    "nothing to evaluate, but to save": (
        ["evaluation=[]", "model.save=true"],
        ["evaluation=[perplexity], for example", "flrc compress MODEL -o FOLDER"],
    ),
    "model path": (
        ["model=local", "model.path=/does/not/exist"],
        ["model.path=/does/not/exist", "does not exist"],
    ),
    "no model path": (["model=local"], ["model.path="]),
    "model shape": (["model.shape=tiny_lama"], ["tiny_lama", "nearest: tiny_llama"]),
    "hub model without a network": (
        ["model=llama3_8b"],
        ["meta-llama/Meta-Llama-3-8B", "cannot be reached", "model=FOLDER"],
    ),
    "data root": (["data.root=/nope"], ["/nope", "data.root="]),
    "no data root": (["data.root="], ["data.root=DIR"]),
    "data set of a calibration": (
        ["calibration.datasets=[wikitext3]"],
        ["wikitext3", "nearest: wikitext2"],
    ),
    "data set of an evaluation": (
        ["evaluation.perplexity.datasets=[wikitext3]"],
        ["wikitext3", "nearest: wikitext2"],
    ),
    "data set of another kind": (
        ["evaluation.perplexity.datasets=[dialogsum]"],
        ["dialogsum", "wikitext2"],
    ),
    "too many samples": (
        ["calibration.samples=4000"],
        ["28 windows of 64 tokens", "4000", "at most 28"],
    ),
    "too many dialogues": (["calibration.dialogues=400"], ["dialogues=400", "at most 8"]),
    "too many windows": (["evaluation.perplexity.windows=4000"], ["14 windows", "windows=4000"]),
    "windows too long": (["evaluation.perplexity.length=100000"], ["100000", "1849 tokens"]),
    "prompts too short": (
        ["evaluation.summarization.max_prompt_tokens=3"],
        ["at most 3 tokens", "at least"],
    ),
    "minimum rank": (
        ["method=svdllm", "allocator.minimum_rank=20", "rate=0.6"],
        ["rate=0.6", "rate up to 0.287", "allocator.minimum_rank"],
    ),
    "beams under a schedule": (
        ["schedule=progressive", "evaluation.summarization.num_beams=2"],
        ["num_beams=2", "schedule=constant"],
    ),
    "offsets": (["schedule.offsets=[-0.1,0.2]"], ["offsets=[-0.1, 0.2]", "0.05"]),
    "replay of nothing": (["allocator=replay"], ["allocator.path", "plan.json"]),
    "replay of a file that is not there": (
        ["allocator=replay", "allocator.path=/nope/plan.json"],
        ["/nope/plan.json"],
    ),
    "allocator without scores": (
        ["allocator=proportional", "sensitivity=none"],
        ["sensitivity=none", "sensitivity=fisher"],
    ),
    "device": (["device=cda"], ["device=cda", "cuda"]),
    "float16 on the CPU": (["dtype=float16"], ["float16", "float32"]),
    "model of BERTScore": (
        ["evaluation.summarization.bertscore_model=roberta"],
        ["roberta", "roberta-large"],
    ),
    "model of BERTScore without a network": (
        ["evaluation.summarization.bertscore_model=roberta-large"],
        ["roberta-large", "minilm"],
    ),
}


def assert_explained(ended: Ended, place: Place, words: list[str]) -> None:
    assert ended.code == 1, ended.text[-2000:]
    assert "Traceback" not in ended.text, ended.text[-3000:]
    for word in words:
        assert word in ended.err, f"{word!r} is not in {ended.err!r}"
    assert ended.err.count("error: ") <= 1
    place.assert_nothing_computed()


@pytest.mark.parametrize("case", CASES)
def test_mistake(case: str, place: Place, call: Call) -> None:
    arguments, words = CASES[case]
    assert_explained(call(*arguments), place, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method=flcr"], ["did you mean flrc?"]),
        (["rte=0.3"], ["did you mean rate=0.3?"]),
        (["rate=1.2"], ["rate=1.2", "[0, 1)"]),
    ],
    ids=["option", "key", "value"],
)
def test_mistake_in_a_process_of_its_own(
    arguments: list[str], words: list[str], place: Place
) -> None:
    assert_explained(place.run(*arguments), place, words)


def test_cuda_without_cuda(place: Place, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_explained(call("device=cuda"), place, ["device=cuda", "device=cpu"])


def test_full_disk(place: Place, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**9, 10**9 - 10**5, 10**5))
    words = ["not enough free disk", "0.00 GB free", str(place.cache), "paths.cache"]
    assert_explained(call("method=svdllm"), place, words)


@pytest.fixture
def spoiled(tmp_path: Path, data_root: Path) -> Place:
    """A place with its own data, to be corrupted."""
    shutil.copytree(data_root, tmp_path / "data")
    return Place(tmp_path, tmp_path / "data")


def spoil(file: Path, number: int, line: str) -> None:
    """Put ``line`` in place of line ``number``, counted from 1."""
    lines = file.read_text("utf-8").splitlines()
    lines[number - 1] = line
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("number", [1, 5])
@pytest.mark.parametrize(
    ("dataset", "split", "line", "words"),
    [
        ("wikitext2", "train", json.dumps({"txt": "a"}), ["lacks text", "columns txt"]),
        ("c4", "validation", json.dumps({"txt": "a"}), ["lacks text", "columns txt"]),
        ("dialogsum", "test", json.dumps({"id": "7", "dialogue": "a"}), ["lacks summary"]),
        ("wikitext2", "test", '{"text": "a', ["invalid JSON"]),
        ("dialogsum", "validation", "[1, 2]", ["not a JSON object"]),
    ],
    ids=["calibration text", "test text", "dialogue", "JSON", "object"],
)
def test_spoiled_row(
    dataset: str, split: str, line: str, words: list[str], number: int, spoiled: Place, call: Call
) -> None:
    file = spoiled.data / dataset / f"{split}.jsonl"
    spoil(file, number, line)
    assert_explained(call(at=spoiled), spoiled, [*words, f"{file}:{number}"])


@pytest.mark.parametrize("dataset_split", ["wikitext2/train", "c4/validation", "dialogsum/test"])
def test_missing_split(dataset_split: str, spoiled: Place, call: Call) -> None:
    file = spoiled.data / f"{dataset_split}.jsonl"
    file.unlink()
    there = {"wikitext2": "test, validation", "c4": "train", "dialogsum": "train, validation"}
    words = [str(file), f"the splits in the folder: {there[dataset_split.split('/')[0]]}"]
    assert_explained(call(at=spoiled), spoiled, words)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("allocator/proportional.yaml", "floor:", "flor:", ["flor", "Proportional"]),
        ("config.yaml", "seed: 0", "sed: 0", ["sed", "RunConfig"]),
        ("model/tiny.yaml", "seed: 0", "seed: zero", ["zero", "model"]),
    ],
    ids=["key of a component", "key of a run", "value"],
)
def test_typo_in_a_yaml_file(
    file: str, old: str, new: str, words: list[str], place: Place, call: Call, tmp_path: Path
) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(ROOT / "conf", copy / "conf")
    shutil.copy(ROOT / "run.py", copy / "run.py")
    path = copy / "conf" / file
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert_explained(call(root=copy), place, words)
