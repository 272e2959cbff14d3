"""Any task: every number is that of ``lm_eval.simple_evaluate`` on the same rows and model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_zeroshot import byte_tokenizer, tiny_model

from flrc.data.folder import Folder
from flrc.evaluation.base import Subject
from flrc.evaluation.lm_eval_definitions import data_of, outline
from flrc.evaluation.zeroshot import ZeroShot
from flrc.results.records.measurement import Measurement
from flrc.runtime.decoding import Decoder

os.environ.setdefault("DISABLE_MULTIPROC", "1")
WORDS = ("red", "green", "blue", "seven", "Oslo", "a cat", "no", "yes", "12", "3.5")


def sciq(count: int) -> list[dict[str, Any]]:
    return [
        {
            "support": f" About {WORDS[n % 10]}.",
            "question": f"What is {n}?",
            "distractor1": WORDS[n % 10],
            "distractor2": f"{WORDS[(n + 3) % 10]} and more",
            "distractor3": WORDS[(n + 5) % 10],
            "correct_answer": WORDS[(n + 7) % 10],
        }
        for n in range(count)
    ]


def lambada(count: int) -> list[dict[str, Any]]:
    return [{"text": f"{WORDS[n % 10]} {n} then {WORDS[(n * 3 + 1) % 10]}"} for n in range(count)]


def gsm8k(count: int) -> list[dict[str, Any]]:
    return [{"question": f"{n}+{n}?", "answer": f"{2 * n} #### {2 * n}"} for n in range(count)]


def triviaqa(count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"Who {WORDS[n % 10]}?", "answer": {"aliases": [WORDS[n % 10], f"{n}"]}}
        for n in range(count)
    ]


def wikitext(count: int) -> list[dict[str, Any]]:
    return [
        {"page": f" = {WORDS[n % 10]} = \n" + "It is a page . " * (n + 40)} for n in range(count)
    ]


def truthfulqa(count: int) -> list[dict[str, Any]]:
    answers = [*WORDS[:4]]
    return [
        {
            "question": f"Is it {n}?",
            "mc1_targets": {"choices": answers, "labels": [1, 0, 0, 0]},
            "mc2_targets": {"choices": answers, "labels": [1, 1, 0, 0]},
        }
        for n in range(count)
    ]


ROWS: dict[str, Any] = {
    "sciq": (sciq, ("test", "train")),
    "lambada_openai": (lambada, ("test",)),
    "gsm8k": (gsm8k, ("test", "train")),
    "triviaqa": (triviaqa, ("validation", "train")),
    "wikitext": (wikitext, ("test",)),
    "truthfulqa_mc2": (truthfulqa, ("validation",)),
}
CASES = [
    ("sciq", None),
    ("sciq", 2),
    ("lambada_openai", None),
    ("gsm8k", None),
    ("triviaqa", 0),
    ("wikitext", None),
    ("truthfulqa_mc2", None),
]
LIMIT, BATCH = 7, 3


def write_rows(root: Path, task: str) -> Path:
    rows, splits = ROWS[task]
    source = data_of(task)
    assert not isinstance(source, str)
    for number, split in enumerate(splits):
        file = root / source.name / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(12 + number)))
    return root / source.name


def theirs(task: str, shots: int | None, folder: Path, place: Path) -> dict[str, Any]:
    """The installed task file with other data, which is what a user of lm-eval would write."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from flrc.evaluation.lm_eval_index import index

    files = {file.stem: str(file) for file in folder.glob("*.jsonl")}
    lines = {
        "include": str(index()[task].file),
        "task": f"local_{task}",
        "tag": None,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(place / "cache")},
    }
    unread = [f"{kind}_split" for kind in ("training", "validation", "test")]
    lines |= {name: None for name in unread if outline(task).get(name) not in files}
    (place / f"{task}.yaml").write_text(json.dumps(lines))
    found = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=tiny_model(), tokenizer=byte_tokenizer(), max_length=1024, batch_size=BATCH
        ),
        tasks=[f"local_{task}"],
        task_manager=TaskManager(include_path=str(place), include_defaults=False),
        num_fewshot=shots,
        limit=LIMIT,
        bootstrap_iters=1000,
    )
    return dict(found)


def named(measurements: list[Measurement]) -> dict[str, Measurement]:
    return {m.name.rpartition("/")[2]: m for m in measurements}


@pytest.mark.parametrize(("task", "shots"), CASES)
def test_same_numbers(task: str, shots: int | None, tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "data", task)
    data = Folder(root=str(tmp_path / "data"))
    evaluation = ZeroShot(tasks=[task], limit=LIMIT, shots=shots, batch_size=BATCH)
    evaluation.check_data(data)
    model, tokenizer = tiny_model(), byte_tokenizer()
    read = evaluation.token_sequences(task, data, tokenizer, model.config)
    outcome = evaluation.evaluate(Subject(Decoder(model, tokenizer, None), data), task)
    ours = named(outcome.measurements)

    found = theirs(task, shots, folder, tmp_path)
    values = found["results"][f"local_{task}"]
    directions = found["higher_is_better"][f"local_{task}"]
    metrics = [key for key in values if "," in key and "_stderr" not in key]
    assert metrics
    for key in metrics:
        metric, kind = key.split(",")
        measurement = ours[metric if kind == "none" else f"{metric}-{kind}"]
        scale = 100 if measurement.unit == "%" else 1
        assert measurement.value == scale * values[key], key
        assert measurement.higher_is_better == directions[metric]
        stderr = values[f"{metric}_stderr,{kind}"]
        assert measurement.stderr == (None if stderr == "N/A" else pytest.approx(scale * stderr))
    assert len(outcome.items) == LIMIT
    if outline(task).get("output_type") == "generate_until":
        samples = found["samples"][f"local_{task}"]
        replies = {sample["doc_id"]: sample["resps"][0][0] for sample in samples}
        assert [item["reply"] for item in outcome.items] == [replies[n] for n in range(LIMIT)]
        assert {len(reply) for reply in replies.values()} != {0}
        assert len(read.ids) == LIMIT
