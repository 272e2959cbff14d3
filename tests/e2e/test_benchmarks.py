"""Tasks of lm-eval by their names, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from running import Call, Place

WORDS = ("red", "green", "blue", "seven", "Oslo", "a cat")


def write_rows(place: Place, root: Path) -> None:
    """Rows of LAMBADA and ANLI beside the other data sets."""
    root.mkdir()
    for dataset in place.data.iterdir():
        (root / dataset.name).symlink_to(dataset)
    lambada = [{"text": f"{word} then {other}"} for word in WORDS for other in WORDS]
    sums = [{"question": f"{n}+1?", "answer": f"#### {n + 1}"} for n in range(20)]
    files = {
        "EleutherAI/lambada_openai/default/test.jsonl": lambada,
        "openai/gsm8k/main/test.jsonl": sums,
        "openai/gsm8k/main/train.jsonl": sums,
    }
    for name, rows in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_tasks_by_their_names(place: Place, call: Call, tmp_path: Path) -> None:
    at = Place(tmp_path / "place", tmp_path / "data")
    write_rows(place, at.data)
    words = (
        "method=svdllm",
        "schedule=progressive",
        "search=none",
        "evaluation=[zeroshot]",
        "evaluation.zeroshot.tasks=[lambada_openai,gsm8k]",
        "evaluation.zeroshot.limit=3",
        "evaluation.zeroshot.shots=1",
    )
    ended = call(*words, at=at)
    assert ended.code == 0, ended.text
    (path,) = at.runs.glob("*/*/record.json")
    record = json.loads(path.read_text())
    found = {m["name"]: m for m in record["results"]["measurements"]}
    assert set(found) == {
        "lambada_openai/perplexity",
        "lambada_openai/acc",
        "gsm8k/exact_match-strict-match",
        "gsm8k/exact_match-flexible-extract",
        "gsm8k/reply_tokens",
        "gsm8k/rate",
        "gsm8k/rate_per_token",
    }
    constant = record["results"]["rate"]["realised"]
    assert found["lambada_openai/acc"]["rate"] == constant
    assert found["gsm8k/rate"]["value"] != constant  # it follows the schedule
    assert found["gsm8k/reply_tokens"]["settings"]["shots"] == 1
    assert "exact_match-strict-match" in ended.out

    again = call(*words, at=at)
    assert again.code == 0
    assert "done already, nothing computed" in again.err

    wrong = call(*words[:3], "evaluation=[zeroshot]", "evaluation.zeroshot.tasks=[gsm8]", at=at)
    assert wrong.code == 1
    assert "the nearest is gsm8k" in wrong.err
    lacking = call(*words[:4], "evaluation.zeroshot.tasks=[boolq]", at=at)
    assert lacking.code == 1
    assert "aps/super_glue/boolq/validation.jsonl" in lacking.err
    assert len(list(at.runs.glob("*/*/record.json"))) == 1
