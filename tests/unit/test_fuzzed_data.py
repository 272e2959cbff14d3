"""Data files with random contents: a clear error that names the file, or a correct run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flrc.data.dataset_catalog import DATASETS, find
from flrc.data.folder import Folder
from flrc.errors import UserError
from flrc.pipeline import run
from flrc.running.preflight import check_inputs, prepare

ODD: list[Any] = [
    None,
    True,
    5,
    -1.5,
    "",
    " \n",
    "\ud800",
    "a\x00b",
    "\u2028",
    [],
    {},
    ["a", 3],
    {"text": ["a"], "label": []},
    "x" * 5000,
    float("nan"),
]
"""What may stand in a column instead of what should."""

Refusal = tuple[str, tuple[str, ...]]
"""What was told, and words of which one must be in it."""

LINES: list[bytes] = [
    b"",
    b"[1, 2]",
    b"null",
    b'{"text": "a"',
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"text": ' + b"9" * 6000 + b"}",
    b'{"text": "\\udc00"}',
    b'{"text": "a", "text": null}',
    b'{"id": {}, "dialogue": 1, "summary": []}',
    b"\xef\xbb\xbf{}",
]
"""What may stand in a file instead of a row."""


@st.composite
def spoiled(draw: st.DrawFn, rows: list[dict[str, Any]]) -> bytes:
    """A file of these rows after a few mistakes: in columns, in lines, in bytes."""
    rows = [dict(row) for row in rows]
    for _ in range(draw(st.integers(0, 2))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        column = draw(st.sampled_from(sorted(row)))
        change = draw(st.sampled_from(["odd", "gone", "deep"]))
        if change == "gone":
            del row[column]
            if not row:
                row["other"] = 1
        elif change == "deep" and isinstance(row[column], dict) and row[column]:
            inner = dict(row[column])
            inner[draw(st.sampled_from(sorted(inner)))] = draw(st.sampled_from(ODD))
            row[column] = inner
        else:
            row[column] = draw(st.sampled_from(ODD))
    lines = [json.dumps(row).encode() for row in rows]
    for _ in range(draw(st.integers(0, 1))):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(LINES)))
    content = b"\n".join(lines) + b"\n"
    how = draw(st.sampled_from(["whole", "whole", "cut", "byte", "few"]))
    if how == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if how == "few":
        return b"\n".join(lines[: draw(st.integers(0, 3))])
    if how == "byte":
        place = draw(st.integers(0, len(content) - 1))
        return content[:place] + draw(st.binary(max_size=3)) + content[place + 1 :]
    return content


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


SPLITS = ["wikitext2/train", "wikitext2/test", "dialogsum/validation", "dialogsum/test"]


@pytest.mark.parametrize("split", SPLITS)
def test_text_and_dialogues(
    split: str, share: float, data_root: Path, tmp_path: Path, run_config: Callable[..., Any]
) -> None:
    """Calibration and both kinds of evaluation that read them, up to the first computation."""
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    config = run_config(
        "method=flra",
        f"data.root={root}",
        "calibration=mixed",
        "calibration.samples=2",
        "calibration.length=32",
        "calibration.dialogues=2",
        "evaluation=[perplexity,summarization]",
        "evaluation.perplexity.datasets=[wikitext2]",
        "evaluation.summarization.bertscore_model=minilm",
    )
    config.evaluation["summarization"].limit = 2
    path = root / f"{split}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    refused: list[Refusal] = []
    ended: list[bytes] = []

    @fuzz(int(150 * share))
    @given(content=spoiled(rows))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            check_inputs(config)
            prepared = prepare(config)
        except UserError as error:
            # Too little text is reported in tokens, a blank one by its row; the rest by its file.
            refused.append((str(error), (str(path), f"{split}, row ", "token", "at most")))
            return
        ended.append(content)
        assert len(prepared.sequences) == 4
        good = [json.loads(line) for line in content.split(b"\n") if line.strip()]
        assert all(isinstance(row[name], str) for row in good for name in _texts(split))

    check()
    assert min(len(refused), len(ended)) >= 10 * share
    assert not [told for told, words in refused if not any(word in told for word in words)]


def _texts(split: str) -> tuple[str, ...]:
    return find(split.split("/")[0]).texts


@pytest.mark.parametrize("task", [n for n, s in DATASETS.items() if s.kind == "multiple_choice"])
def test_questions(task: str, share: float, tmp_path: Path, tokenizer: Any) -> None:
    """lm-eval's own code reads them before a model is loaded; unusable questions are rejected."""
    from flrc.data.sample import Sample
    from flrc.evaluation.lm_eval_tasks import Questions, build_task
    from flrc.evaluation.zeroshot import ZeroShot
    from flrc.models.sources.random import Random

    split = find(task).evaluation_split
    rows = [
        {name: row[name] for name in find(task).columns} for row in Sample().rows(task, split)[:4]
    ]
    path = tmp_path / task / f"{split}.jsonl"
    path.parent.mkdir()
    evaluation, data = ZeroShot(tasks=[task]), Folder(root=str(tmp_path))
    config = Random().config()
    refused: list[Refusal] = []
    ended: list[bytes] = []

    @fuzz(int(60 * share))
    @given(content=spoiled(rows))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            evaluation.check_data(data)
            evaluation.token_sequences(task, data, tokenizer, config)
        except UserError as error:
            refused.append((str(error), (str(path), f"{task}: ")))
            return
        ended.append(content)
        built = build_task(Questions(task, data.rows(task, split)))
        built.build_all_requests()
        assert len(built.instances) >= 2

    check()
    assert min(len(refused), len(ended)) >= 3 * share
    assert not [told for told, words in refused if not any(word in told for word in words)]


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[] if n < 2 else pytest.mark.slow) for n in range(8)]
)
def test_whole_runs(
    seed: int, data_root: Path, tmp_path: Path, run_config: Callable[..., Any]
) -> None:
    """What passes the checks runs to the end, with finite numbers."""
    root = tmp_path / "data"
    shutil.copytree(data_root, root)
    config = run_config("method=svdllm", f"data.root={root}", "evaluation=[perplexity]")
    config.evaluation["perplexity"].datasets = ["wikitext2"]
    path = root / "wikitext2" / "train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found: list[bytes] = []

    @fuzz(20 + seed)
    @given(content=spoiled(rows))
    def look(content: bytes) -> None:
        path.write_bytes(content)
        try:
            check_inputs(config)
            prepare(config)
        except UserError:
            return
        found.append(content)

    look()
    path.write_bytes(max(found[-3:], key=len))
    record = run(config)
    assert record.run["status"] == "ok", record.run
    assert all(0 < m.value < float("inf") for m in record.measurements)
