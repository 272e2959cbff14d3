"""Zero-shot evaluation: lm-eval's definitions, in-memory models and rows, means and errors."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flrc.data.dataset_catalog import DATASETS
from flrc.data.sample import Sample
from flrc.errors import UserError
from flrc.evaluation.base import Subject
from flrc.evaluation.lm_eval_answers import Answers, ask
from flrc.evaluation.lm_eval_definitions import PAPER_TASKS, expand, installed_definition
from flrc.evaluation.lm_eval_tasks import DATA_FIELDS, Questions, build_task
from flrc.evaluation.zeroshot import ZeroShot
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.results.records.measurement import Measurement
from flrc.runtime.decoding import Decoder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {**{c: i for i, c in enumerate(alphabet)}, "</s>": 256}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=256,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def subject() -> Subject:
    plans = Plans(RankPlan(0.2, 0.2, {}), [])
    return Subject(Decoder(tiny_model(), byte_tokenizer(), plans), Sample())


def rows(task: str, limit: int = 12) -> list[dict[str, Any]]:
    return Sample().rows(task, DATASETS[task].evaluation_split)[:limit]


def asked(task: str, subject: Subject, batch_size: int = 8) -> Answers:
    return ask(Questions(task, rows(task)), subject.decoder, batch_size)


def test_the_papers_seven_tasks_are_the_default() -> None:
    seven = ["arc_easy", "arc_challenge", "hellaswag", "openbookqa", "winogrande", "mathqa", "piqa"]
    assert ZeroShot().parts() == list(PAPER_TASKS) == seven


@pytest.mark.parametrize("task", PAPER_TASKS)
def test_definition_is_the_installed_one_but_for_its_data(task: str) -> None:
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    # lm-eval's own index says which file the name stands for.
    folder = Path(lm_eval.tasks.__file__).parent / ("arc" if "arc_" in task else task)
    entry = TaskManager(include_path=str(folder), include_defaults=False).task_index[task]
    theirs = load_yaml(entry.yaml_path)
    assert installed_definition(task) == theirs
    ours = build_task(Questions(task, rows(task))).config
    for name, value in theirs.items():
        if name not in DATA_FIELDS:
            found = getattr(ours, name)
            if name == "metadata":
                found = {key: found[key] for key in value}
            assert found == value, name
    assert ours.num_fewshot == 0


@pytest.mark.parametrize("task", PAPER_TASKS)
def test_numbers_do_not_depend_on_batch_size(task: str, subject: Subject) -> None:
    one, eight = asked(task, subject, 1), asked(task, subject, 8)
    assert one.scores == eight.scores
    for a, b in zip(one.items, eight.items, strict=True):
        assert a["loglikelihoods"] == pytest.approx(b["loglikelihoods"], abs=1e-3)
        assert {**a, "loglikelihoods": 0} == {**b, "loglikelihoods": 0}


def loglikelihood(subject: Subject, context: str, continuation: str) -> float:
    """By hand, one byte a token: sum of log p of the continuation's tokens."""
    ids = subject.tokenizer(context + continuation, return_tensors="pt")["input_ids"]
    length = len(continuation.encode())
    with torch.no_grad():
        logits = subject.model(ids).logits[0, :-1].double().log_softmax(-1)
    return float(logits.gather(1, ids[0, 1:, None])[-length:].sum())


def test_scores_by_hand(subject: Subject) -> None:
    task = "arc_easy"
    items = asked(task, subject).items
    for row, item in zip(rows(task), items, strict=True):
        context = f"Question: {row['question']}\nAnswer:"
        scores = [loglikelihood(subject, context, f" {c}") for c in row["choices"]["text"]]
        assert item["id"] == row["id"]
        assert item["loglikelihoods"] == pytest.approx(scores, abs=1e-3)
        assert item["predicted"] == scores.index(max(scores))
        assert item["gold"] == row["choices"]["label"].index(row["answerKey"])
        assert item["correct"] == (item["predicted"] == item["gold"])


def test_winogrande_by_hand(subject: Subject) -> None:
    # Here the choices stand in the question and the rest of the sentence is scored.
    items = asked("winogrande", subject).items
    for row, item in zip(rows("winogrande"), items, strict=True):
        before, after = row["sentence"].split("_", 1)
        options = (row["option1"], row["option2"])
        scores = [loglikelihood(subject, before + o, " " + after.strip()) for o in options]
        assert item["loglikelihoods"] == pytest.approx(scores, abs=1e-3)
        assert item["gold"] == int(row["answer"]) - 1


@pytest.mark.parametrize(
    ("task", "gold"),
    [
        ("hellaswag", lambda row: int(row["label"])),
        ("openbookqa", lambda row: row["choices"]["label"].index(row["answerKey"])),
        ("mathqa", lambda row: "abcde".index(row["correct"])),
        ("piqa", lambda row: row["label"]),
    ],
)
def test_gold_answers(task: str, gold: Any, subject: Subject) -> None:
    items = asked(task, subject).items
    assert [item["gold"] for item in items] == [gold(row) for row in rows(task)]


def test_outcome(subject: Subject) -> None:
    evaluation = ZeroShot(limit=12)
    outcome = evaluation.evaluate(subject, "piqa")
    (measurement,) = outcome.measurements
    correct = [float(item["correct"]) for item in outcome.items]
    assert measurement.name == "sample_piqa/acc"
    assert measurement.value == pytest.approx(100 * statistics.mean(correct))
    assert measurement.stderr == pytest.approx(100 * statistics.stdev(correct) / math.sqrt(12))
    assert (measurement.unit, measurement.count, measurement.rate) == ("%", 12, 0.2)
    assert measurement.settings == evaluation.settings("piqa", subject.data)
    assert measurement.settings["limit"] == 12
    assert measurement.settings["data"] == Sample().fingerprint("piqa", "validation")
    assert {"task_version": "1.0", "lm_eval": "0.4.13", "metric": "acc"}.items() <= (
        measurement.settings.items()
    )
    other = ZeroShot(limit=12, batch_size=1).settings("piqa", subject.data)
    assert other == measurement.settings


def test_single_question_has_no_error(subject: Subject) -> None:
    (measurement,) = ZeroShot(limit=1).evaluate(subject, "piqa").measurements
    assert measurement.stderr is None
    assert measurement.value in (0, 100)


def test_model_and_tokenizer_come_back_as_they_were() -> None:
    # An untied head although the configuration says "tied": lm-eval's tie_weights would undo it.
    model, tokenizer = tiny_model(), byte_tokenizer()
    torch.manual_seed(1)
    head = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.lm_head.weight = head
    before = {name: value.clone() for name, value in model.state_dict().items()}
    by_hand = Subject(Decoder(model, tokenizer, None), Sample())
    row = rows("arc_easy", 1)[0]
    expected = loglikelihood(
        by_hand, f"Question: {row['question']}\nAnswer:", f" {row['choices']['text'][0]}"
    )
    items = ask(Questions("arc_easy", [row]), by_hand.decoder, 1).items
    assert items[0]["loglikelihoods"][0] == pytest.approx(expected, abs=1e-3)
    assert model.lm_head.weight is head
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert tokenizer.pad_token is None
    assert model.tie_weights.__func__ is type(model).tie_weights


def measured(task: str, value: float, stderr: float | None = 3.0, **changes: Any) -> Measurement:
    name = changes.get("name", f"{task}/acc")
    settings = {"task": task, "limit": None}
    return Measurement(name, value, "%", True, stderr, 10, settings, changes.get("rate", 0.2))


MEAN_OF_TWO = "zeroshot/mean_acc_of_mathqa+piqa"


def test_mean_needs_all_tasks() -> None:
    evaluation = ZeroShot(tasks=["piqa", "mathqa"])
    perplexity = Measurement("c4/perplexity", 9.0, "perplexity", False, None, 4, {}, 0.2)
    assert evaluation.summarise([measured("piqa", 60), perplexity]) == []
    parts = [measured("piqa", 60, 3.0), perplexity, measured("mathqa", 20, 4.0)]
    (mean,) = evaluation.summarise(parts)
    assert (mean.name, mean.value, mean.count, mean.rate) == (MEAN_OF_TWO, 40, 20, 0.2)
    assert mean.stderr == pytest.approx(5 / 2)
    assert set(mean.settings["tasks"]) == {"piqa", "mathqa"}
    (no_error,) = evaluation.summarise([measured("piqa", 60, None), measured("mathqa", 20)])
    assert no_error.stderr is None


def test_the_name_of_a_mean_says_which_tasks_it_covers() -> None:
    def mean_of(tasks: Sequence[str]) -> list[Measurement]:
        means = ZeroShot(tasks=list(tasks)).summarise([measured(task, 50) for task in tasks])
        return [m for m in means if "group" not in m.settings]

    (seven,), (turned,) = mean_of(PAPER_TASKS), mean_of(PAPER_TASKS[::-1])
    assert seven.name == turned.name == "zeroshot/mean_acc"
    assert seven.settings == turned.settings
    assert mean_of(["boolq"]) == []  # its accuracy is its mean
    (two,), (six,) = mean_of(["sciq", "boolq"]), mean_of(PAPER_TASKS[:6])
    assert two.name == "zeroshot/mean_acc_of_boolq+sciq"
    assert two.settings["metric"] == "mean_acc_of_boolq+sciq"
    assert set(two.settings["tasks"]) == {"boolq", "sciq"}
    subjects = [name for name in expand(["mmlu"]) if name.startswith("mmlu_")]
    (many,), (fewer,) = mean_of(subjects), mean_of(subjects[1:])
    assert re.fullmatch(r"zeroshot/mean_acc_of_57_tasks_[0-9a-f]{6}", many.name)
    assert set(many.settings["tasks"]) == set(subjects)
    assert len({m.name for m in (seven, two, six, many, fewer)}) == 5


def test_mean_on_sample_data_carries_the_samples_name() -> None:
    evaluation = ZeroShot(tasks=["piqa", "mathqa"])
    parts = [measured(t, 50, name=f"sample_{t}/acc") for t in evaluation.tasks]
    assert [m.name for m in evaluation.summarise(parts)] == [f"sample_{MEAN_OF_TWO}"]
    with pytest.raises(UserError, match="one data source"):
        evaluation.summarise([parts[0], measured("mathqa", 50)])
    with pytest.raises(UserError, match="one rate"):
        evaluation.summarise([measured("piqa", 1, rate=0.1), measured("mathqa", 1)])


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="the nearest is arc_easy"):
        ZeroShot(tasks=["arc_eazy"])
    for wrong in ({"tasks": []}, {"tasks": ["piqa", "piqa"]}, {"limit": 0}, {"batch_size": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            ZeroShot(**wrong)


def test_missing_data_is_found_before_any_work(tmp_path: Path) -> None:
    from flrc.data.folder import Folder

    with pytest.raises(UserError, match="piqa validation"):
        ZeroShot(tasks=["piqa"]).check_data(Folder(root=str(tmp_path)))
    ZeroShot().check_data(Sample())
