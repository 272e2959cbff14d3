"""Runs lm-eval's tasks on rows and models that are in memory."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flrc.core.progress import progress
from flrc.data.dataset_catalog import find
from flrc.errors import UserError
from flrc.evaluation.shrinking_batches import free_memory, halved
from flrc.models.anatomy.input_limits import Limits

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Paths of the task files, because lm-eval takes 15 seconds to index all of its 14,000 tasks.
_FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "mathqa": "mathqa/mathqa.yaml",
    "piqa": "piqa/piqa.yaml",
}

DATA_FIELDS = (
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "custom_dataset",
    "training_split",
    "validation_split",
    "test_split",
)
"""Fields of a task definition that locate its rows; they are replaced, all others are kept."""

UNLIMITED = 2**31
"""Maximum length of a question, in tokens, if the model has no context length."""


@dataclass(frozen=True)
class Answers:
    """Share of correct answers, its standard error if there are several, an item per question."""

    accuracy: float
    stderr: float | None
    items: list[dict[str, Any]]


@cache
def installed_definition(task: str) -> dict[str, Any]:
    """The task's definition in the installed lm-eval, with its functions resolved."""
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    definition: dict[str, Any] = load_yaml(Path(lm_eval.tasks.__file__).parent / _FILES[task])
    return definition


def build_task(task: str, rows: list[dict[str, Any]]) -> ConfigurableTask:
    """An lm-eval task with our rows, which have the columns of the catalog."""
    from datasets import Dataset, disable_progress_bars
    from lm_eval.api.task import ConfigurableTask

    disable_progress_bars()  # flrc shows its own
    spec = find(task)
    split = spec.evaluation_split
    # Other columns are not read by lm-eval, and may have different types in different rows.
    questions = Dataset.from_list([{name: row[name] for name in spec.columns} for row in rows])
    # Fields of the other splits are removed: examples are not needed, and lm-eval would prefer test
    # to validation.
    evaluation_field = "test_split" if split == "test" else "validation_split"
    installed = installed_definition(task).items()
    definition = {name: value for name, value in installed if name not in DATA_FIELDS}
    definition |= {evaluation_field: split, "custom_dataset": lambda **_: {split: questions}}
    with _quiet("lm_eval.api.task"):
        built = ConfigurableTask(config=definition)
    built.set_config("num_fewshot", 0)
    return built


def checked_task(task: str, rows: list[dict[str, Any]]) -> ConfigurableTask:
    """:func:`build_task`, after checking that every row is a question with choices and an answer.

    Raises:
        UserError: If one does not; names the first such row.
    """
    number: int | None = None
    try:
        built = build_task(task, rows)
        for number, doc in enumerate(built.eval_docs, start=1):  # noqa: B007  read in the error
            choices, gold = built.doc_to_choice(doc), _gold(built, doc)
            if not all(isinstance(choice, str) and choice.strip() for choice in choices):
                raise ValueError(f"the choices are {choices}")
            if not 0 <= gold < len(choices):
                raise ValueError(f"answer {gold} of {len(choices)} choices")
    except Exception as error:  # the task's code may raise anything on unexpected rows
        where = "" if number is None else f" {number}"
        problem = (str(error).splitlines() or [""])[0][:200]
        raise UserError(
            f"{task}: lm-eval cannot make a question from row{where}",
            given=f"{type(error).__name__}: {problem}",
            allowed=f"columns {', '.join(find(task).columns)} as in {find(task).hub_path}",
        ) from error
    return built


def question_tokens(
    task: ConfigurableTask, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig
) -> list[list[int]]:
    """Token ids of every question with each of its answers, as lm-eval feeds them to the model.

    The model itself is not needed; the tokenizer is not changed.

    Raises:
        UserError: If a question or answer has no tokens, so that lm-eval cannot score it.
    """
    from lm_eval.models.huggingface import HFLM

    sequences: list[list[int]] = []

    class Reader(HFLM):  # type: ignore[misc]
        def _loglikelihood_tokens(
            self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
        ) -> list[tuple[float, bool]]:
            for (question, answer), context, continuation in requests:
                if not context or not continuation:
                    raise UserError(
                        f"{task.config.task}: a question or an answer has no tokens",
                        given=f"{question[-60:]!r} {answer[:60]!r}",
                        allowed="at least one token in the question and in the answer",
                    )
                sequences.append([*context, *continuation])
            return [(0.0, False)] * len(requests)

    with _quiet("lm_eval.models.huggingface"), _quiet("lm_eval.api.task"):
        model = SimpleNamespace(config=config, device="cpu")
        reader = Reader(pretrained=model, tokenizer=copy.deepcopy(tokenizer))
        instances = [
            instance
            for number, doc in enumerate(task.eval_docs)
            for instance in task.construct_requests(
                doc,
                task.fewshot_context(doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc)),
                metadata=(task.config.task, number, 1),
            )
        ]
    doing = f"tokenising the questions of {task.config.task}"
    for instance in progress(instances, doing, len(instances)):
        reader.loglikelihood([instance], disable_tqdm=True)
    return sequences


def _gold(task: ConfigurableTask, doc: dict[str, Any]) -> int:
    """Index of the correct choice."""
    # If the choices differ in the question (winogrande), lm-eval has the answer in the text field.
    return int(task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc))


def ask(
    task: str,
    rows: list[dict[str, Any]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
) -> Answers:
    """Ask a model a task's questions.

    lm-eval's response cache is not used: its key does not contain the model. Model and tokenizer
    are not changed. When memory runs out, the batch size is halved and the task is asked again.
    """
    import numpy as np
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    built = build_task(task, rows)
    # Without a context length in the config, lm-eval would truncate questions at its own default.
    longest = Limits.of(model.config).context or UNLIMITED
    own = copy.deepcopy(tokenizer)  # lm-eval sets a padding token on it
    while True:
        with _ties_kept(model), _quiet("lm_eval.models.huggingface"):
            wrapped = HFLM(
                pretrained=model, tokenizer=own, batch_size=batch_size, max_length=longest
            )
        try:
            results = evaluate(lm=wrapped, task_dict={"tasks": {task: built}})
            break
        except (RuntimeError, MemoryError) as error:
            batch_size = halved(batch_size, error)
        free_memory()
    items = []
    for sample in sorted(results["samples"][task], key=lambda sample: int(sample["doc_id"])):
        index = int(sample["doc_id"])
        scores = [float(score) for score, _ in sample["filtered_resps"]]
        item = {
            "id": str(rows[index].get("id", index)),
            "loglikelihoods": scores,
            "predicted": int(np.argmax(scores)),
            "gold": _gold(built, sample["doc"]),
            "correct": bool(sample["acc"]),
        }
        if item["correct"] != (item["predicted"] == item["gold"]):
            raise RuntimeError(f"{task}: lm-eval does not score by the most likely choice: {item}")
        items.append(item)
    values = results["results"][task]
    stderr = values["acc_stderr,none"]
    return Answers(float(values["acc,none"]), stderr if isinstance(stderr, float) else None, items)


@contextmanager
def _ties_kept(model: PreTrainedModel) -> Iterator[None]:
    """Inside, ``tie_weights`` of the model does nothing.

    lm-eval calls it. On a compressed model whose head is separate, though its config says that it
    is tied, this would replace the head by the embedding.
    """
    model.__dict__["tie_weights"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del model.__dict__["tie_weights"]


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hide a logger's warnings that rows and models in memory cause; they are intended."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
