"""Runs lm-eval's tasks on rows and models that are in memory."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flrc.core.progress import progress
from flrc.data.dataset_catalog import find
from flrc.errors import UserError
from flrc.evaluation.lm_eval_definitions import (
    CHOICE,
    PAPER_TASKS,
    data_of,
    evaluation_split,
    example_split,
    installed_definition,
)
from flrc.evaluation.lm_eval_surroundings import quiet
from flrc.models.anatomy.input_limits import Limits

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


log = logging.getLogger(__name__)

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

EXAMPLE_FIELDS = ("fewshot_split", "fewshot_config")
"""Fields about examples, which are read even if there are none; they are removed then."""

UNLIMITED = 2**31
"""Maximum length of a question, in tokens, if the model has no context length."""


EXAMPLE_SEED = 1234
"""Seed of the choice of examples for prompts; lm-eval's default."""


@dataclass(frozen=True)
class Questions:
    """Rows of a task and how they are asked.

    Attributes:
        task: The task.
        rows: Rows of the evaluated split.
        limit: Number of questions, from the first; None for all.
        shots: Number of examples in each prompt.
        examples: Rows of the split from which examples are drawn, if that is another.
        run_code: Whether program code that the model writes may be run.
    """

    task: str
    rows: Sequence[dict[str, Any]]
    limit: int | None = None
    shots: int = 0
    examples: Sequence[dict[str, Any]] = ()
    run_code: bool = False


def build_task(questions: Questions) -> ConfigurableTask:
    """An lm-eval task with our rows."""
    from datasets import disable_progress_bars
    from lm_eval.api.task import ConfigurableTask

    disable_progress_bars()  # flrc shows its own
    task, shots = questions.task, questions.shots
    evaluated, drawn = evaluation_split(task), example_split(task, shots)
    splits = {evaluated: _dataset(task, questions.rows)}
    if drawn is not None and drawn != evaluated:
        splits[drawn] = _dataset(task, questions.examples)
    installed = installed_definition(task)
    kept = {
        name: copy.deepcopy(value)
        for name, value in installed.items()
        if name not in DATA_FIELDS and (shots or name not in EXAMPLE_FIELDS)
    }
    # Fields of the splits that are not read are removed; lm-eval would prefer test to validation.
    asked = "test_split" if evaluated == installed.get("test_split") else "validation_split"
    kept |= {asked: evaluated, "custom_dataset": lambda **_: splits}
    if drawn is not None and not kept.get("fewshot_split"):
        fields = ("training_split", "validation_split", "test_split")
        kept |= {next(name for name in fields if installed.get(name) == drawn): drawn}
    with quiet("lm_eval.api.task"), quiet("lm_eval.config.task"):
        built = ConfigurableTask(config=kept)
    built.set_config("num_fewshot", shots)
    built.set_fewshot_seed(EXAMPLE_SEED)
    return built


def _dataset(task: str, rows: Sequence[dict[str, Any]]) -> Any:
    from datasets import Dataset

    if task in PAPER_TASKS:
        # Other columns are not read by lm-eval, and may have different types in different rows.
        columns = find(task).columns
        return Dataset.from_list([{name: row[name] for name in columns} for row in rows])
    # Not Dataset.from_list: it takes the columns of the first row.
    names = dict.fromkeys(name for row in rows for name in row)
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def checked_task(questions: Questions) -> ConfigurableTask:
    """:func:`build_task`, after checking that every row is a question with an answer.

    Raises:
        UserError: If one is not; names the first such row.
    """
    with _row_named(questions):
        built = build_task(questions)
    for number, doc in enumerate(_asked(built, questions)):
        with _row_named(questions, number):
            if built.OUTPUT_TYPE == CHOICE:
                _check_choices(built, doc)
            else:
                built.doc_to_target(doc)
    return built


def _asked(task: ConfigurableTask, questions: Questions) -> Iterator[dict[str, Any]]:
    """The questions, after the task's own preparation of its rows."""
    for _, doc in task.doc_iterator(limit=questions.limit):
        yield doc


def _check_choices(task: ConfigurableTask, doc: dict[str, Any]) -> None:
    choices, gold = task.doc_to_choice(doc), gold_of(task, doc)
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise ValueError(f"the choices are {choices}")
    for answer in gold if isinstance(gold, list) else [gold]:
        if not 0 <= answer < len(choices):
            raise ValueError(f"answer {answer} of {len(choices)} choices")


def question_tokens(
    task: ConfigurableTask,
    questions: Questions,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
) -> list[list[int]]:
    """Token ids of every question with each of its answers, as lm-eval feeds them to the model.

    Of a generating task, its prompts. The model itself is not needed; the tokenizer is not changed.

    Raises:
        UserError: If a question or answer has no tokens, so that lm-eval cannot score it.
    """
    from lm_eval.models.huggingface import HFLM

    sequences: list[list[int]] = []

    class Reader(HFLM):  # type: ignore[misc]
        def _loglikelihood_tokens(
            self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
        ) -> list[tuple[float, bool]]:
            for texts, context, continuation in requests:
                if not context or not continuation:
                    question, answer = texts or ("", "")
                    raise UserError(
                        f"{questions.task}: a question or an answer has no tokens",
                        given=f"{question[-60:]!r} {answer[:60]!r}",
                        allowed="at least one token in the question and in the answer",
                    )
                sequences.append([*context, *continuation])
            return [(0.0, False)] * len(requests)

        def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
            for request in requests:
                ids, _mask = self.tok_batch_encode([request.args[0]])
                sequences.append(ids[0].tolist())
            return [""] * len(requests)

    with quiet("lm_eval.models.huggingface"), quiet("lm_eval.api.task"):
        model = SimpleNamespace(config=config, device="cpu")
        reader = Reader(
            pretrained=model, tokenizer=copy.deepcopy(tokenizer), max_length=longest_of(config)
        )
        instances: list[Instance] = []
        for number, doc in enumerate(_asked(task, questions)):
            with _row_named(questions, number):
                made = task.construct_requests(
                    doc,
                    task.fewshot_context(
                        doc, num_fewshot=questions.shots, gen_prefix=task.doc_to_prefix(doc)
                    ),
                    metadata=(task.config.task, number, 1),
                )
            instances += made if isinstance(made, list) else [made]
    doing = f"tokenising the questions of {task.config.task}"
    for instance in progress(instances, doing, unit="request"):
        getattr(reader, instance.request_type)([instance], disable_tqdm=True)
    return sequences


@contextmanager
def _row_named(questions: Questions, number: int | None = None) -> Iterator[None]:
    """Inside, the task's code reads a row, counted from 0, and may raise anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        where = "" if number is None else f" {number + 1}"
        problem = (str(error).splitlines() or [""])[0][:200]
        row = questions.rows[number or 0] if questions.rows else {}
        raise UserError(
            f"{questions.task}: lm-eval cannot make a question from row{where}",
            given=f"{type(error).__name__}: {problem}; columns {', '.join(map(str, row))}",
            allowed=_expected(questions.task),
        ) from error


def _expected(task: str) -> str:
    spec = find(data_of(task))
    return f"{spec.described_columns()}{f', as in {spec.hub_path}' if spec.columns else ''}"


def gold_of(task: ConfigurableTask, doc: dict[str, Any]) -> int | list[int]:
    """Index of the correct choice, or of each of them."""
    # If the choices differ in the question (winogrande), lm-eval has the answer in the text field.
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, list):
        return [int(answer) for answer in gold]
    choices = task.doc_to_choice(doc)
    return choices.index(gold) if gold in choices else int(gold)


def longest_of(config: PretrainedConfig) -> int:
    """Maximum length of a question; without a context length, lm-eval would truncate at its own."""
    return Limits.of(config).context or UNLIMITED
