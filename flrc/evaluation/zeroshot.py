"""Zero-shot accuracy on multiple-choice tasks, as lm-eval measures it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flrc.data.base import DataSource
from flrc.data.catalog import DATASETS, find
from flrc.errors import UserError, choose
from flrc.evaluation.base import Evaluation, Subject
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from flrc.data.token_sequences import TokenSequences

TASKS = tuple(name for name, spec in DATASETS.items() if spec.kind == "multiple_choice")
"""Tasks that can be asked for; the default is all of them, the seven of the paper."""


@dataclass
class ZeroShot(Evaluation):
    """Accuracy (``acc``, not ``acc_norm``) of lm-eval's tasks, no examples, no chat template.

    lm-eval's own task files define prompts, choices and scoring; only the rows come from our data
    source.

    Attributes:
        tasks: The tasks, each a part.
        limit: First questions of each task that are asked; None for all.
        batch_size: Answers scored at once; does not change the numbers.

    Source: FLRC (arXiv 2510.09332), Table 2; EleutherAI's lm-evaluation-harness.
    """

    name: str = "zeroshot"
    tasks: list[str] = field(default_factory=lambda: list(TASKS))
    limit: int | None = None
    batch_size: int = 8

    def check(self) -> None:
        """Raise UserError for unknown or repeated tasks and for numbers below 1."""
        for task in self.tasks:
            choose("evaluation.zeroshot.tasks", task, TASKS)
        self.require(
            0 < len(self.tasks) == len(set(self.tasks)), "tasks", "each task once, at least one"
        )
        self.require(self.limit is None or self.limit >= 1, "limit", "null for all, or at least 1")
        self.require(self.batch_size >= 1, "batch_size", "at least 1")

    def parts(self) -> list[str]:
        """The tasks."""
        return list(self.tasks)

    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Task and its version, lm-eval's version, limit, metric and the data's fingerprint."""
        from flrc.evaluation.lm_eval_tasks import task_version

        split = find(part).evaluation_split
        return {
            "task": part,
            "task_version": task_version(part),
            "lm_eval": version("lm_eval"),
            "metric": "acc",
            "shots": 0,
            "limit": self.limit,
            "split": split,
            "data": data.fingerprint(part, split),
        }

    def check_data(self, data: DataSource) -> None:
        """Raise UserError if the rows of a task are not there."""
        for task in self.tasks:
            data.check_available(task, find(task).evaluation_split)

    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """Every question with each of its answers, as many questions as are asked for."""
        from flrc.data.token_sequences import TokenSequences
        from flrc.evaluation.lm_eval_tasks import asked, checked_task

        rows = data.rows(part, find(part).evaluation_split)
        if self.limit is not None and len(rows) < self.limit:
            raise UserError(
                f"{data.label(part)} has {len(rows)} questions",
                given=f"evaluation.zeroshot.limit={self.limit}",
                allowed=f"at most {len(rows)}, or null for all",
            )
        task = checked_task(part, rows[: self.limit])
        return TokenSequences(
            f"a question of {part} with an answer",
            asked(task, tokenizer, config),
            "a model with a longer context, or evaluation.zeroshot.tasks without this one",
            last_is_fed=False,
        )

    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Ask one task's questions.

        Items: ``id``, ``loglikelihoods`` of the choices, the indices ``predicted`` and ``gold``,
        ``correct``.
        """
        from flrc.evaluation.lm_eval_tasks import answer

        rows = subject.data.rows(part, find(part).evaluation_split)[: self.limit]
        answers = answer(part, rows, subject.model, subject.tokenizer, self.batch_size)
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
        """The mean over all configured tasks, equally weighted; nothing until all are there.

        Raises:
            UserError: If the tasks ran on data of different sources or at different rates.
        """
        by_task = {
            m.settings["task"]: m
            for m in measurements
            if m.name.endswith("/acc") and m.settings.get("task") in self.tasks
        }
        if set(by_task) != set(self.tasks):
            return []
        parts = [by_task[task] for task in self.tasks]
        # "" for a benchmark's own data, "sample_" for the sample's.
        prefixes = {m.name.removesuffix("/acc").removesuffix(m.settings["task"]) for m in parts}
        rates = {m.rate for m in parts}
        if len(prefixes) > 1 or len(rates) > 1:
            raise UserError(
                "zeroshot: a mean needs all tasks on one data source and at one rate",
                given=", ".join(f"{m.name} at rate {m.rate:g}" for m in parts),
            )
        errors = [m.stderr for m in parts if m.stderr is not None]
        complete = len(errors) == len(parts)
        return [
            Measurement(
                name=f"{prefixes.pop()}zeroshot/mean_acc",
                value=sum(m.value for m in parts) / len(parts),
                unit="%",
                higher_is_better=True,
                # The tasks' errors are independent: the variance of a mean of k is the sum over k
                # squared.
                stderr=math.hypot(*errors) / len(parts) if complete else None,
                count=sum(m.count for m in parts),
                settings={
                    "metric": "mean_acc",
                    "tasks": {m.settings["task"]: m.settings for m in parts},
                },
                rate=rates.pop(),
            )
        ]
