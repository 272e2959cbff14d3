"""Tasks whose replies are generated: schedule, ends of replies, rates, memory; and their groups."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from decoding import compressed
from test_lm_eval_tasks_against_lm_eval import write_rows
from test_zeroshot import byte_tokenizer, tiny_model

from flrc.data.folder import Folder
from flrc.errors import UserError
from flrc.evaluation.base import Subject
from flrc.evaluation.lm_eval_definitions import data_of, generation, group_of, installed_definition
from flrc.evaluation.lm_eval_replies import EndsAtText, reply_length
from flrc.evaluation.lm_eval_tasks import Questions, build_task
from flrc.evaluation.zeroshot import ZeroShot
from flrc.models.anatomy.input_limits import Limits
from flrc.results.records.measurement import Measurement
from flrc.results.records.paired import compare
from flrc.runtime.decoding import Decoder
from flrc.schedule.progressive import Progressive

STEPS = 48
"""Longest reply in these tests, instead of the task's 256 tokens."""


@pytest.fixture
def data(tmp_path: Path) -> Folder:
    for task in ("triviaqa", "gsm8k", "sciq"):
        write_rows(tmp_path, task)
    return Folder(root=str(tmp_path))


@pytest.fixture
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task with shorter replies: in its definition, which lm-eval reads too."""
    from flrc.evaluation import lm_eval_definitions, lm_eval_tasks

    outline, installed = lm_eval_definitions.outline, lm_eval_definitions.installed_definition

    def shorter(task: str, definition: Any) -> dict[str, Any]:
        options = {**definition.get("generation_kwargs", {}), "max_gen_toks": STEPS}
        return {**definition, "generation_kwargs": options}

    monkeypatch.setattr(lm_eval_definitions, "outline", lambda t: shorter(t, outline(t)))
    monkeypatch.setattr(lm_eval_tasks, "installed_definition", lambda t: shorter(t, installed(t)))


def by_hand(decoder: Decoder, prompts: list[list[int]], until: tuple[str, ...]) -> list[list[int]]:
    """Replies one by one, which end by their length only; cut at the first of the texts."""
    replies = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        output = decoder.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=STEPS
        )
        reply = output[0].tolist()
        if 256 in reply:  # the end-of-sequence token
            reply = reply[: reply.index(256) + 1]
        length = next(
            (
                n
                for n in range(1, len(reply) + 1)
                if any(text in decoder.tokenizer.decode(reply[:n]) for text in until)
            ),
            len(reply),
        )
        replies.append(reply[:length])
    return replies


@pytest.mark.usefixtures("short_replies")
def test_replies_follow_the_schedule_and_rates_are_those_of_their_steps(data: Folder) -> None:
    model, tokenizer = tiny_model(), byte_tokenizer()
    _, plans = compressed(model, Progressive())
    assert len(plans.by_step(STEPS)) == 2
    decoder = Decoder(model, tokenizer, plans)
    evaluation = ZeroShot(tasks=["triviaqa"], batch_size=5)
    prompts = [
        list(map(int, ids))
        for ids in evaluation.token_sequences("triviaqa", data, tokenizer, model.config).ids
    ]
    outcome = evaluation.evaluate(Subject(decoder, data), "triviaqa")
    until = generation("triviaqa").until
    expected = by_hand(decoder, prompts, until)
    lengths = [len(reply) for reply in expected]
    assert min(lengths) < STEPS // 2 < max(lengths)  # some end at a text, some in the second phase
    for item, reply in zip(outcome.items, expected, strict=True):
        text = tokenizer.decode(reply, skip_special_tokens=True)
        for end in until:
            text = text.split(end)[0]
        assert item["reply"] == text
    found = {m.name: m for m in outcome.measurements}
    assert found["triviaqa/reply_tokens"].value == pytest.approx(sum(lengths) / len(lengths))
    rate = decoder.rate_per_step(lengths, STEPS)
    assert found["triviaqa/rate"].value == pytest.approx(rate)
    assert found["triviaqa/rate"].value != pytest.approx(plans.constant.realised, abs=1e-3)
    assert found["triviaqa/exact_match-remove_whitespace"].rate == pytest.approx(rate)
    per_token = decoder.rate_per_token(lengths, [len(ids) for ids in prompts], STEPS)
    assert found["triviaqa/rate_per_token"].value == pytest.approx(per_token)
    assert found["triviaqa/rate"].settings["until"] == list(until)


@pytest.mark.usefixtures("short_replies")
def test_memory_that_runs_out_halves_the_batch(
    data: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    model, tokenizer = tiny_model(), byte_tokenizer()
    subject = Subject(Decoder(model, tokenizer, None), data)
    evaluation = ZeroShot(tasks=["gsm8k"], limit=4, batch_size=4, shots=2)
    expected = evaluation.evaluate(subject, "gsm8k")

    def scarce(_: Any, __: Any, options: dict[str, Any]) -> None:
        if len(options["input_ids"]) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried ...")

    model.register_forward_pre_hook(scarce, with_kwargs=True)
    assert evaluation.evaluate(subject, "gsm8k") == expected
    assert "continuing with batches of 2" in caplog.text


def test_a_prompt_with_its_reply_has_to_fit(data: Folder) -> None:
    model, tokenizer = tiny_model(), byte_tokenizer()
    read = ZeroShot(tasks=["gsm8k"]).token_sequences("gsm8k", data, tokenizer, model.config)
    assert read.new_tokens == 256
    longest = max(len(ids) for ids in read.ids)
    read.check(Limits(longest + 255, 257), "tiny")
    with pytest.raises(UserError, match="longer than the model's context length") as caught:
        read.check(Limits(longest + 254, 257), "tiny")
    assert "evaluation.zeroshot.shots below 5" in str(caught.value)


def test_the_end_of_a_reply_is_found_in_any_spelling() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("abc STOP def")["input_ids"]
    assert reply_length(ids, tokenizer, ["STOP", "zz"]) == len("abc STOP")
    assert reply_length(ids, tokenizer, ["zz"]) == len(ids)
    assert reply_length(ids, tokenizer, ["d", "c"]) == len("abc")
    ends = EndsAtText(tokenizer, ["STOP"], 3)
    rows = [tokenizer(text)["input_ids"] for text in ("?: a STOP", "STOP abcd")]
    # In the prompt, it ends nothing.
    assert ends(torch.tensor(rows), torch.empty(0)).tolist() == [True, False]


def measured(task: str, metric: str, value: float, count: int, rate: float = 0.2) -> Measurement:
    settings = {"task": task}
    return Measurement(f"{task}/{metric}", value, "%", True, 2.0, count, settings, rate)


def test_a_group_reports_what_lm_eval_does() -> None:
    from lm_eval.api.group import Group
    from lm_eval.config.group import AggMetricConfig

    group = group_of("mmlu_stem")
    sizes = {task: 10 + 7 * n for n, task in enumerate(group.tasks)}
    values = {task: float(n * 3 % 50) for n, task in enumerate(group.tasks)}

    class Leaf(Group):
        def get_all_tasks(self, recursive: bool = True) -> Any:
            return [type("Task", (), {"task_name": task}) for task in group.tasks]

    theirs = Leaf("mmlu_stem", aggregate_metric_list=[AggMetricConfig("acc")]).aggregate(
        {
            task: {"acc,none": values[task], "acc_stderr,none": 2.0, "sample_len": sizes[task]}
            for task in group.tasks
        }
    )
    evaluation = ZeroShot(tasks=["mmlu_stem", "piqa"])
    parts = [measured(task, "acc", values[task], sizes[task]) for task in group.tasks]
    (ours,) = evaluation.summarise(parts)  # the mean has to wait for piqa
    assert (ours.name, ours.count) == ("mmlu_stem/acc", sum(sizes.values()))
    assert ours.value == theirs["acc,none"]
    assert ours.stderr == theirs["acc_stderr,none"]
    assert set(ours.settings["tasks"]) == set(group.tasks)
    assert evaluation.summarise(parts[1:]) == []
    whole = evaluation.summarise([*parts, measured("piqa", "acc", 60.0, 100)])
    assert [m.name for m in whole] == ["mmlu_stem/acc", "zeroshot/mean_acc_of_mmlu_stem+piqa"]
    assert whole[1].value == (ours.value + 60) / 2


def test_no_mean_of_numbers_that_are_no_accuracies() -> None:
    parts = [measured("piqa", "acc", 60, 9), measured("gsm8k", "exact_match-strict-match", 5, 9)]
    assert ZeroShot(tasks=["piqa", "gsm8k"]).summarise(parts) == []


def test_columns_that_the_first_row_lacks_are_read(data: Folder) -> None:
    file = Path(data.root) / "allenai/sciq/test.jsonl"
    first, *others = file.read_text().splitlines()
    row = json.loads(first)
    del row["support"]
    file.write_text("\n".join([*others[:3], json.dumps(row), *others[3:]]) + "\n")
    built = build_task(Questions("sciq", data.rows(data_of("sciq"), "test")))
    assert [doc["support"] is None for doc in built.eval_docs].count(True) == 1
    built = build_task(Questions("gsm8k", [{"answer": "1"}, {"answer": "2", "question": "1+1?"}]))
    assert [doc["question"] for doc in built.eval_docs] == [None, "1+1?"]


def test_replies_need_a_token_that_ends_them(data: Folder) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    evaluation = ZeroShot(tasks=["gsm8k"], shots=0)
    with pytest.raises(UserError, match="end-of-sequence token"):
        evaluation.token_sequences("gsm8k", data, tokenizer, tiny_model().config)


@pytest.mark.usefixtures("short_replies")
def test_code_is_run_only_if_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    import evaluate

    request.addfinalizer(lambda: sys.modules.pop("lm_eval.tasks.humaneval.utils", None))
    request.addfinalizer(installed_definition.cache_clear)

    class CodeEval:
        """In place of the metric of that name, which is a script on the hub; runs nothing."""

        def compute(self, predictions: list[Any], **_: Any) -> Any:
            ran.append(predictions)
            return ({"pass@1": 0.5}, {})

    ran: list[Any] = []
    monkeypatch.setattr(evaluate, "load", lambda *_, **__: CodeEval())
    row = {"prompt": "def f():\n", "test": "assert f()", "entry_point": "f", "task_id": "0"}
    file = tmp_path / "openai/openai_humaneval/test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(2 * (json.dumps(row) + "\n"))
    data = Folder(root=str(tmp_path))
    with pytest.raises(UserError, match="runs the program code") as caught:
        ZeroShot(tasks=["humaneval"]).check_data(data)
    assert "evaluation.zeroshot.run_code=true" in str(caught.value.fix)
    allowed = ZeroShot(tasks=["humaneval"], run_code=True)
    allowed.check_data(data)
    subject = Subject(Decoder(tiny_model(), byte_tokenizer(), None), data)
    with pytest.raises(ValueError, match="unsafe"):
        ZeroShot(tasks=["humaneval"]).evaluate(subject, "humaneval")
    assert len(ran) <= 1  # lm-eval's own test of the metric, as it is imported
    ran.clear()
    (score, *_) = allowed.evaluate(subject, "humaneval").measurements
    assert (score.name, score.value) == ("humaneval/pass@1-create_test", 0.5)
    assert len(ran) == 2


def test_a_row_without_a_column_is_named(data: Folder) -> None:
    file = Path(data.root) / "allenai/sciq/test.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        del row["question"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = ZeroShot(tasks=["sciq"])
    with pytest.raises(UserError) as caught:
        evaluation.token_sequences("sciq", data, byte_tokenizer(), tiny_model().config)
    assert "sciq: lm-eval cannot make a question from row" in caught.value.problem
    assert "'question' is undefined" in str(caught.value.given)
    assert "distractor1, distractor2" in str(caught.value.given)
    assert caught.value.allowed == "the columns of allenai/sciq"


def test_questions_of_two_runs_are_compared_one_by_one(data: Folder) -> None:
    subject = Subject(Decoder(tiny_model(), byte_tokenizer(), None), data)
    items = ZeroShot(tasks=["sciq"]).evaluate(subject, "sciq").items
    by_id = {"zeroshot/sciq {}": {item["id"]: item for item in items}}
    found = {p.name: p for p in compare(by_id, by_id)}
    assert {"zeroshot/sciq acc", "zeroshot/sciq acc_norm"} <= set(found)
    accuracy = found["zeroshot/sciq acc"]
    assert accuracy.items == len(items) == 12
    assert accuracy.first == pytest.approx(
        100 * sum(item["predicted"] == item["gold"] for item in items) / 12
    )
    assert not [name for name in found if "mean_acc" in name]
