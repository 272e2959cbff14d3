"""Zero-shot accuracy on multiple-choice tasks, as lm-eval measures it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DATASETS
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError, choose
from flrc.evaluation.base import Evaluation, Subject
from flrc.evaluation.lm_eval_tasks import (
    ask,
    checked_task,
    installed_definition,
    question_tokens,
)
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

TASKS = tuple(name for name, spec in DATASETS.items() if spec.kind == "multiple_choice")
"""The supported tasks, which are the seven of the paper."""


@dataclass
class ZeroShot(Evaluation):
    """Accuracy (``acc``, not ``acc_norm``) on lm-eval's tasks, zero-shot, without a chat template.

    lm-eval's own task files define prompts, choices and scoring; the rows are from our data source.

    Attributes:
        tasks: Tasks, each measured and saved by itself; their mean is reported once all are done.
        limit: Number of questions per task, from the first; None for all. It is part of what
            defines the number.
        batch_size: Answers scored together; changes speed and memory, not the numbers.

    Source: FLRC (arXiv 2510.09332), Table 2; EleutherAI's lm-evaluation-harness.
    """

    name: str = "zeroshot"
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    limit: int | None = None
    batch_size: int = 8

    def check(self) -> None:
        """Check that tasks are known and unique, and that numbers are at least 1."""
        for task in self.tasks:
            choose("evaluation.zeroshot.tasks", task, TASKS)
        self.require(
            0 < len(self.tasks) == len(set(self.tasks)), "tasks", "one task or more, each once"
        )
        self.require(self.limit is None or self.limit >= 1, "limit", "1 or more, or null for all")
        self.require(self.batch_size >= 1, "batch_size", "1 or more")

    def parts(self) -> list[str]:
        """The tasks."""
        return list(self.tasks)

    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Task and version, version of lm-eval, limit, metric and fingerprint of the data."""
        split = self.split(part)
        return {
            "task": part,
            "task_version": str(installed_definition(part)["metadata"]["version"]),
            "lm_eval": version("lm_eval"),
            "metric": "acc",
            "shots": 0,
            "limit": self.limit,
            "split": split,
            "data": data.fingerprint(part, split),
        }

    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """Each of the requested questions with each of its answers."""
        rows = data.rows(part, self.split(part))
        self.require_enough("limit", len(rows), f"{data.label(part)} has {len(rows)} questions")
        task = checked_task(part, rows[: self.limit])
        return TokenSequences(
            f"a question of {part} with an answer",
            question_tokens(task, tokenizer, config),
            "use a model with a longer context, or evaluation.zeroshot.tasks without this task",
            last_is_fed=False,
        )

    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Ask the questions of one task.

        Items: ``id``, ``loglikelihoods`` of the choices, indices ``predicted`` and ``gold``, and
        ``correct``.
        """
        rows = subject.data.rows(part, self.split(part))[: self.limit]
        answers = ask(part, rows, subject.model, subject.tokenizer, self.batch_size)
        measurement = Measurement(
            name=f"{subject.data.label(part)}/acc",
            value=100 * answers.accuracy,
            unit="%",
            higher_is_better=True,
            stderr=None if answers.stderr is None else 100 * answers.stderr,
            count=len(answers.items),
            settings=self.settings(part, subject.data),
            rate=subject.rate,
        )
        return Outcome([measurement], answers.items)

    def summarise(self, measurements: Iterable[Measurement]) -> list[Measurement]:
        """The unweighted mean over all configured tasks; empty until all of them are measured.

        Raises:
            UserError: If tasks were measured on different data sources or at different rates.
        """
        by_task = {
            m.settings["task"]: m
            for m in measurements
            if m.name.endswith("/acc") and m.settings.get("task") in self.tasks
        }
        if set(by_task) != set(self.tasks):
            return []
        parts = [by_task[task] for task in self.tasks]
        # "" for data of the benchmark, "sample_" for the sample.
        prefixes = {m.name.removesuffix("/acc").removesuffix(m.settings["task"]) for m in parts}
        rates = {m.rate for m in parts}
        if len(prefixes) > 1 or len(rates) > 1:
            raise UserError(
                "zeroshot: a mean needs all tasks on one data source and at one rate",
                given=", ".join(f"{m.name} at rate {m.rate:g}" for m in parts),
            )
        errors = [m.stderr for m in parts if m.stderr is not None]
        return [
            Measurement(
                name=f"{prefixes.pop()}zeroshot/mean_acc",
                value=sum(m.value for m in parts) / len(parts),
                unit="%",
                higher_is_better=True,
                # The errors are independent: the variance of a mean of k is their sum over k^2.
                stderr=math.hypot(*errors) / len(parts) if len(errors) == len(parts) else None,
                count=sum(m.count for m in parts),
                settings={
                    "metric": "mean_acc",
                    "tasks": {m.settings["task"]: m.settings for m in parts},
                },
                rate=rates.pop(),
            )
        ]
