"""Tasks of lm-eval, by name: accuracy and whatever else they define, as lm-eval measures it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.component import added
from flrc.data.base import DataSource
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.evaluation.base import Evaluation, Subject
from flrc.evaluation.lm_eval_aggregates import group_measurements, mean_accuracy
from flrc.evaluation.lm_eval_answers import SHARES, Answers, ask
from flrc.evaluation.lm_eval_definitions import (
    PAPER_TASKS,
    check_supported,
    data_of,
    definition_digest,
    evaluation_split,
    example_split,
    expand,
    generates,
    generation,
    shots_of,
    task_version,
)
from flrc.evaluation.lm_eval_tasks import EXAMPLE_SEED, Questions, checked_task, question_tokens
from flrc.evaluation.means import mean_and_error
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

SHOWN = 20
"""Largest number of missing files that one error lists."""


@dataclass
class ZeroShot(Evaluation):
    """Any task or group of lm-eval, without a chat template; zero-shot unless the task is not.

    lm-eval's own task files define prompts, choices and scoring; the rows are from our data source.
    Of the paper's seven tasks, the accuracy is reported (``acc``, not ``acc_norm``); of all others,
    every metric that they define. Choices and texts are scored with the constant plan; replies are
    generated under the run's schedule.

    Attributes:
        tasks: Tasks, groups and tags of lm-eval; each task is measured and saved by itself. Of a
            group, its own mean is reported too; of several tasks that all have an accuracy, their
            mean: ``mean_acc`` of the paper's seven, ``mean_acc_of_boolq+sciq`` of others.
        limit: Number of questions per task, from the first; None for all. It is part of what
            defines the number.
        batch_size: Answers scored, or replies generated, together; changes speed and memory, not
            the numbers.
        shots: Number of examples in each prompt; None for the task's own, which is 0 for most.
        run_code: Whether program code that the model writes is run, for tasks that need it.

    Source: FLRC (arXiv 2510.09332), Table 2; EleutherAI's lm-evaluation-harness.
    """

    name: str = "zeroshot"
    tasks: list[str] = field(default_factory=lambda: list(PAPER_TASKS))
    limit: int | None = None
    batch_size: int = 8
    shots: int | None = added(None)
    run_code: bool = added(False)

    NEEDS: ClassVar[tuple[str, ...]] = ("lm_eval", "datasets")

    def check(self) -> None:
        """Check that tasks are known and unique, and that numbers are in range."""
        self.require(
            0 < len(self.tasks) == len(set(self.tasks)), "tasks", "one task or more, each once"
        )
        expand(self.tasks)
        self.require(self.limit is None or self.limit >= 1, "limit", "1 or more, or null for all")
        self.require(self.batch_size >= 1, "batch_size", "1 or more")
        self.require(self.shots is None or self.shots >= 0, "shots", "0 or more, or null")

    def parts(self) -> list[str]:
        """The tasks, those of groups and tags included."""
        return expand(self.tasks)

    def split(self, part: str) -> str:
        """The split whose questions are asked."""
        return evaluation_split(part)

    def generates(self) -> bool:
        """Whether one of the tasks asks for replies."""
        return any(generates(part) for part in self.parts())

    def check_data(self, data: DataSource) -> None:
        """Check that flrc can evaluate the tasks, and that all splits that they need are there."""
        missing: list[UserError] = []
        for part in self.parts():
            check_supported(part, self.run_code)
            for split in self._splits(part):
                try:
                    data.check_available(data_of(part), split)
                except UserError as error:
                    missing.append(error)
        if len(missing) > 1:
            shown = [str(error.given) for error in missing[:SHOWN]]
            more = [f"and {len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
            first = missing[0]
            raise UserError(
                f"data of {len(missing)} tasks and splits is missing; the first: {first.problem}",
                given="\n           ".join([*dict.fromkeys(shown), *more]),
                allowed=first.allowed,
                fix=first.fix,
            ) from first
        if missing:
            raise missing[0]

    def _splits(self, part: str) -> list[str]:
        drawn = example_split(part, shots_of(part, self.shots))
        return list(dict.fromkeys([self.split(part), *([] if drawn is None else [drawn])]))

    def label(self, part: str, data: DataSource) -> str:
        """The task; the sample, which has its own questions, has the paper's tasks only."""
        return data.label(part) if part in PAPER_TASKS else part

    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Task and version, version of lm-eval, limit, metrics and fingerprints of the data.

        For all but the paper's tasks: the digest of the task's definition, and how replies are
        generated.
        """
        split, shots = self.split(part), shots_of(part, self.shots)
        source = data_of(part)
        settings: dict[str, Any] = {
            "task": part,
            "task_version": task_version(part),
            "lm_eval": version("lm_eval"),
            **({"metric": "acc"} if part in PAPER_TASKS else {}),
            "shots": shots,
            "limit": self.limit,
            "split": split,
            "data": data.fingerprint(source, split),
        }
        if shots:
            drawn = example_split(part, shots)
            rows = None if drawn is None else data.fingerprint(source, drawn)
            settings |= {"examples": {"split": drawn, "data": rows, "seed": EXAMPLE_SEED}}
        if not isinstance(source, str):
            settings |= {"dataset": source.name, "definition": definition_digest(part)}
        if generates(part):
            replies = generation(part)
            settings |= {
                "max_new_tokens": replies.max_new_tokens,
                "until": list(replies.until),
            }
        return settings

    def _questions(self, part: str, data: DataSource) -> Questions:
        source, split, shots = data_of(part), self.split(part), shots_of(part, self.shots)
        rows = data.rows(source, split)
        self.require_enough(
            "limit", len(rows), f"{self.label(part, data)} has {len(rows)} questions"
        )
        if part in PAPER_TASKS:  # their questions are the rows, one by one
            rows = rows[: self.limit]
        drawn = example_split(part, shots)
        return Questions(
            part,
            rows,
            self.limit,
            shots,
            () if drawn in (None, split) else data.rows(source, str(drawn)),
            self.run_code,
        )

    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """Each of the requested questions with each of its answers, or each prompt for a reply."""
        questions = self._questions(part, data)
        task = checked_task(questions)
        what = f"a question of {self.label(part, data)} with an answer"
        fix = "use a model with a longer context, or evaluation.zeroshot.tasks without this task"
        if questions.shots:
            fix += f", or evaluation.zeroshot.shots below {questions.shots}"
        ids = question_tokens(task, questions, tokenizer, config)
        if generates(part):
            if tokenizer.eos_token_id is None:
                raise UserError(
                    f"{part}: lm-eval ends replies at the tokenizer's end-of-sequence token",
                    given="a tokenizer without one",
                    fix="use the tokenizer that belongs to the model, or leave the task out",
                )
            length = generation(part).max_new_tokens
            return TokenSequences(
                f"a prompt of {self.label(part, data)} with its reply", ids, fix, length
            )
        return TokenSequences(what, ids, fix, last_is_fed=False)

    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Ask the questions of one task.

        Items: ``id``; ``loglikelihoods`` of the choices and indices ``predicted`` and ``gold``, or
        ``loglikelihood`` of a text, or ``reply``; ``correct`` for the paper's tasks, else every
        metric of the single question.
        """
        answers = ask(self._questions(part, subject.data), subject.decoder, self.batch_size)
        settings, count = self.settings(part, subject.data), len(answers.items)
        label = self.label(part, subject.data)
        replies = self._replies(subject, part, answers)
        rate = replies.get("rate", (subject.rate, "", None))[0]
        measurements = [
            Measurement(
                name=f"{label}/{score.name}",
                value=score.value,
                unit="%" if score.metric in SHARES else _unit(score.metric),
                higher_is_better=score.higher_is_better,
                stderr=score.stderr,
                count=count,
                settings=settings,
                rate=rate,
            )
            for score in answers.scores
            if part not in PAPER_TASKS or score.name == "acc"
        ]
        measurements += [
            Measurement(f"{label}/{name}", value, unit, False, error, count, settings, rate)
            for name, (value, unit, error) in replies.items()
        ]
        return Outcome(measurements, answers.items)

    def _replies(
        self, subject: Subject, part: str, answers: Answers
    ) -> dict[str, tuple[float, str, float | None]]:
        """Value, unit and standard error of length and realised rates of generated replies."""
        lengths = answers.reply_tokens
        if not lengths:
            return {}
        steps, decoder = generation(part).max_new_tokens, subject.decoder
        mean, error = mean_and_error(lengths)
        return {
            "reply_tokens": (mean, "tokens", error),
            "rate": (decoder.rate_per_step(lengths, steps), "", None),
            "rate_per_token": (
                decoder.rate_per_token(lengths, answers.prompt_tokens, steps),
                "",
                None,
            ),
        }

    def summarise(self, measurements: Iterable[Measurement]) -> list[Measurement]:
        """What groups report over their tasks, and the unweighted mean accuracy of ``tasks``.

        Each is left out until all of its tasks are measured; the mean also if a task has no
        accuracy, and for a single task.

        Raises:
            UserError: If tasks were measured on different data sources or at different rates.
        """
        measured = list(measurements)
        return [*group_measurements(self.tasks, measured), *mean_accuracy(self.tasks, measured)]


def _unit(metric: str) -> str:
    return "perplexity" if metric.endswith("perplexity") else ""
