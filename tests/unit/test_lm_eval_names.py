"""Names of lm-eval's tasks and groups: found fast, expanded, refused where flrc cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flrc.core.component import plain
from flrc.data.dataset_catalog import DATASETS, DatasetSpec
from flrc.data.folder import Folder
from flrc.data.sample import Sample
from flrc.errors import UserError
from flrc.evaluation.lm_eval_definitions import (
    PAPER_TASKS,
    check_supported,
    data_of,
    definition_digest,
    expand,
    generation,
    group_of,
    outline,
    shots_of,
)
from flrc.evaluation.lm_eval_index import GROUP, TAG, TASK, index, tasks_folder
from flrc.evaluation.zeroshot import ZeroShot

FOLDERS = ("mmlu", "lambada", "gsm8k", "bbh/cot_fewshot", "glue", "aclue", "truthfulqa", "squadv2")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_index_is_that_of_lm_eval(folder: str) -> None:
    from lm_eval.tasks import TaskManager

    root = tasks_folder() / folder
    theirs = TaskManager(include_path=str(root), include_defaults=False).task_index
    assert theirs
    kinds = {"TASK": TASK, "GROUP": GROUP, "TAG": TAG, "PY_TASK": "class"}
    for name, entry in theirs.items():
        ours = index()[name]
        assert ours.kind == kinds[entry.kind.name], name
        assert ours.file == entry.yaml_path, name
        if ours.kind == TAG:
            assert entry.tags <= ours.tasks, name


def test_a_mistyped_name_is_answered_without_lm_eval_or_torch() -> None:
    code = """
import sys
from flrc.errors import UserError
from flrc.evaluation.zeroshot import ZeroShot
try:
    ZeroShot(tasks=["helaswag"])
except UserError as error:
    print(error)
print(sorted({"torch", "lm_eval", "datasets"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "the nearest is hellaswag" in done.stdout
    assert "fix:     evaluation.zeroshot.tasks=[hellaswag]" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_papers_tasks_need_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flrc.evaluation.lm_eval_index.index", lambda: pytest.fail("indexed"))
    evaluation = ZeroShot()
    assert evaluation.parts() == list(PAPER_TASKS)
    assert not evaluation.generates()
    evaluation.check_data(Sample())
    assert "shots" not in plain(evaluation)


def test_groups_are_their_tasks_and_tags_too() -> None:
    mmlu = group_of("mmlu")
    assert len(mmlu.tasks) == 57
    assert [(a.metric, a.by_size) for a in mmlu.aggregates] == [("acc", True)]
    inside = {group.name: len(group.tasks) for group in mmlu.inside}
    assert inside == {
        "mmlu_stem": 19,
        "mmlu_other": 13,
        "mmlu_social_sciences": 12,
        "mmlu_humanities": 13,
    }
    assert expand(["lambada", "piqa"]) == ["lambada_openai", "lambada_standard", "piqa"]
    assert expand(["mmlu_anatomy", "mmlu_stem"])[0] == "mmlu_anatomy"
    assert len(expand(["mmlu_anatomy", "mmlu_stem"])) == 19
    with pytest.raises(UserError, match="openllm changes the definition of its tasks"):
        ZeroShot(tasks=["openllm"])


def test_where_the_rows_of_a_task_are() -> None:
    def source(task: str) -> DatasetSpec:
        found = data_of(task)
        assert isinstance(found, DatasetSpec)
        return found

    gsm8k = source("gsm8k")
    assert (gsm8k.name, gsm8k.hub_path, gsm8k.hub_config) == (
        "openai/gsm8k/main",
        "openai/gsm8k",
        "main",
    )
    assert (gsm8k.splits, gsm8k.evaluation_split) == (("test", "train"), "test")
    assert source("sciq").name == "allenai/sciq"
    # The same rows as a data set of the catalog have its folder.
    assert source("arc_challenge_chat").name == "arc_challenge"
    # Files at other places, and no code of data sets.
    assert all("trust_remote_code" not in source(task).hub_options for task in ("sciq", "wnli"))
    files = next(n for n, e in index().items() if e.kind == TASK and _path(n) == "json")
    assert source(files).name == files
    assert data_of("piqa") == "piqa"
    assert DATASETS["piqa"].columns


def _path(task: str) -> object:
    return outline(task).get("dataset_path") if "/json" not in task else None


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("humaneval", "runs the program code that the model writes"),
        ("squadv2", "it is defined by a Python class"),
        ("mmmu_val_accounting", "it needs images or sound"),
        ("niah_single_1", "its code makes the questions"),
        ("gsm8k_cot_self_consistency", "its replies are sampled"),
    ],
)
def test_what_flrc_cannot_do_is_refused_in_one_line(task: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ZeroShot(tasks=[task]).check_data(Folder(root=str(tmp_path)))
    assert reason in caught.value.problem
    assert "\n" not in caught.value.problem


def test_examples_in_the_prompt() -> None:
    assert (shots_of("gsm8k", None), shots_of("gsm8k", 2), shots_of("gsm8k", 0)) == (5, 2, 0)
    assert shots_of("piqa", None) == 0
    with pytest.raises(UserError, match="defines truthfulqa_mc1 without examples"):
        shots_of("truthfulqa_mc1", 5)
    with pytest.raises(UserError, match="shots is out of range"):
        ZeroShot(shots=-1)


def test_how_replies_are_generated() -> None:
    check_supported("gsm8k")
    gsm8k = generation("gsm8k")
    assert gsm8k.max_new_tokens == 256
    assert gsm8k.until == ("Question:", "</s>", "<|im_end|>")
    assert ZeroShot(tasks=["piqa", "gsm8k"]).generates()
    assert not ZeroShot(tasks=["piqa", "sciq"]).generates()


def test_a_definition_has_the_same_digest_wherever_lm_eval_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {task: definition_digest(task) for task in ("gsm8k", "sciq", "truthfulqa_mc2")}
    assert len(set(digests.values())) == 3
    other = tmp_path / "tasks"
    (tmp_path / "tasks").symlink_to(tasks_folder())
    assert "process_results" in outline("truthfulqa_mc2")
    moved = {
        key: str(value).replace(str(tasks_folder()), str(other))
        for key, value in outline("truthfulqa_mc2").items()
    }
    assert str(other) in moved["process_results"]
    monkeypatch.setattr("flrc.evaluation.lm_eval_definitions.tasks_folder", lambda: other)
    whole = {**outline("truthfulqa_mc2"), "process_results": moved["process_results"]}
    monkeypatch.setattr("flrc.evaluation.lm_eval_definitions.outline", lambda _: whole)
    assert definition_digest("truthfulqa_mc2") == digests["truthfulqa_mc2"]


def test_missing_files_are_all_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "allenai/sciq").mkdir(parents=True)
    (tmp_path / "allenai/sciq/test.jsonl").write_text('{"question": "a"}\n')
    evaluation = ZeroShot(tasks=["sciq", "gsm8k"])
    with pytest.raises(UserError) as caught:
        evaluation.check_data(Folder(root=str(tmp_path)))
    for split in ("test", "train"):  # of which the examples are drawn
        assert str(tmp_path / f"openai/gsm8k/main/{split}.jsonl") in str(caught.value)
    assert "sciq" not in str(caught.value)
    with pytest.raises(UserError, match="sample data does not have openai/gsm8k/main"):
        ZeroShot(tasks=["gsm8k"], shots=0).check_data(Sample())
