"""Our zero-shot numbers are those of lm-eval's own command line on the same model and items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import built
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DATASETS
from flrc.data.folder import Folder
from flrc.data.sample import SAMPLE_ROOT, Sample
from flrc.evaluation.base import Subject
from flrc.evaluation.lm_eval_definitions import PAPER_TASKS
from flrc.evaluation.zeroshot import ZeroShot
from flrc.export import main as export
from flrc.form.pivoted import Pivoted
from flrc.models.checkpoints.checkpoint import Loaded, load, save
from flrc.results.records.measurement import Outcome
from flrc.runtime.decoding import Decoder
from flrc.schedule.constant import Constant

LIMIT = 20
# The same comparison can be made with another model and other data: two folders.
MODEL, DATA = os.environ.get("FLRC_TEST_MODEL"), os.environ.get("FLRC_TEST_DATA")


def save_tiny_model(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {**{c: i for i, c in enumerate(alphabet)}, "</s>": 256}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    FastTokenizer(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def write_tasks(folder: Path, root: Path) -> None:
    """The installed task files, included, with other data: what a user of lm-eval would write."""
    import lm_eval.tasks

    installed = Path(lm_eval.tasks.__file__).parent
    for task in PAPER_TASKS:
        split = DATASETS[task].evaluation_split
        group = installed / ("arc" if task.startswith("arc_") else task)
        file = group / ("default.yaml" if task == "winogrande" else f"{task}.yaml")
        lines = {
            "include": str(file),
            "task": f"local_{task}",
            "tag": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(root / task / f"{split}.jsonl")}},
            "training_split": None,
            "validation_split": split if split == "validation" else None,
            "test_split": split if split == "test" else None,
        }
        # JSON is YAML.
        (folder / f"{task}.yaml").write_text(json.dumps(lines))


def run_command_line(
    model: str, tasks: Path, output: Path, names: Sequence[str] = PAPER_TASKS, more: str = ""
) -> dict[str, Any]:
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={model},dtype=float32{more}"]
    command += ["--tasks", *[f"local_{task}" for task in names], "--include_path", str(tasks)]
    command += ["--limit", str(LIMIT), "--batch_size", "4", "--device", "cpu"]
    command += ["--output_path", str(output), "--log_samples"]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(output / "datasets"),
        "HF_MODULES_CACHE": str(output / "modules"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = output.glob("**/results_*.json")
    samples = {}
    for task in names:
        (path,) = output.glob(f"**/samples_local_{task}_*.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        samples[task] = sorted(lines, key=lambda line: int(line["doc_id"]))
    return {"results": json.loads(file.read_text())["results"], "samples": samples}


@pytest.mark.slow
def test_same_numbers_as_the_command_line(tmp_path: Path) -> None:
    model_dir = MODEL or str(tmp_path / "model")
    if MODEL is None:
        save_tiny_model(tmp_path / "model")
    data: DataSource = Folder(root=DATA) if DATA else Sample()
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks", Path(DATA) if DATA else SAMPLE_ROOT)
    theirs = run_command_line(model_dir, tmp_path / "tasks", tmp_path / "output")

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    subject = Subject(Decoder(model, tokenizer, None), data)
    evaluation = ZeroShot(limit=LIMIT, batch_size=8)
    ours: dict[str, Outcome] = {task: evaluation.evaluate(subject, task) for task in PAPER_TASKS}
    for task, outcome in ours.items():
        (measurement,) = outcome.measurements
        expected = theirs["results"][f"local_{task}"]
        assert measurement.value == pytest.approx(100 * expected["acc,none"], abs=1e-9), task
        assert measurement.stderr == pytest.approx(100 * expected["acc_stderr,none"]), task
        assert measurement.count == LIMIT
        for item, sample in zip(outcome.items, theirs["samples"][task], strict=True):
            scores = [float(score) for score, _ in sample["filtered_resps"]]
            assert item["loglikelihoods"] == pytest.approx(scores, abs=1e-3), task
            assert item["correct"] == bool(sample["acc"])
    values = [100 * theirs["results"][f"local_{task}"]["acc,none"] for task in PAPER_TASKS]
    (mean,) = evaluation.summarise(m for o in ours.values() for m in o.measurements)
    assert mean.value == pytest.approx(sum(values) / len(values))


@pytest.mark.slow
def test_a_compressed_checkpoint_under_the_command_line(tmp_path: Path) -> None:
    """Loaded by its own modeling file, and as its dense export, against the record's numbers."""
    save_tiny_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    _, plans = built(model, Pivoted(), Constant(), True, False)
    save(Loaded(model, tokenizer, plans), tmp_path / "model")
    assert export([str(tmp_path / "model"), str(tmp_path / "dense")]) == 0
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks", SAMPLE_ROOT)
    again = load(tmp_path / "model", torch.device("cpu"))
    subject = Subject(Decoder(again.model, tokenizer, plans), Sample())
    outcome = ZeroShot(limit=LIMIT, batch_size=8).evaluate(subject, "piqa")
    (measurement,) = outcome.measurements
    for name, more in (("model", ",trust_remote_code=True"), ("dense", "")):
        theirs = run_command_line(
            str(tmp_path / name), tmp_path / "tasks", tmp_path / f"{name}_out", ("piqa",), more
        )
        expected = theirs["results"]["local_piqa"]
        assert measurement.value == pytest.approx(100 * expected["acc,none"], abs=1e-9), name
        for item, sample in zip(outcome.items, theirs["samples"]["piqa"], strict=True):
            scores = [float(score) for score, _ in sample["filtered_resps"]]
            assert item["loglikelihoods"] == pytest.approx(scores, abs=1e-2), name
