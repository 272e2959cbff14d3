"""Asks a model the questions of an lm-eval task, which lm-eval scores."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flrc.evaluation.lm_eval_definitions import GENERATION, PAPER_TASKS
from flrc.evaluation.lm_eval_surroundings import quiet, ties_kept, within_flrc
from flrc.evaluation.lm_eval_tasks import (
    EXAMPLE_SEED,
    Questions,
    build_task,
    gold_of,
    longest_of,
)
from flrc.evaluation.shrinking_batches import free_memory, halved

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask

    from flrc.runtime.decoding import Decoder

log = logging.getLogger(__name__)

RESAMPLES = 1000
"""Resamples behind the standard error of a metric that is not a mean; a mean has an exact one."""

SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
"""Metrics that are reported in per cent, as shares of questions; others as lm-eval reports them."""


@dataclass(frozen=True)
class Score:
    """One metric of a task, as lm-eval computes it; ``filter`` is that of the replies."""

    metric: str
    filter: str
    value: float
    stderr: float | None
    higher_is_better: bool

    @property
    def name(self) -> str:
        """``acc``; ``exact_match-strict-match`` if the replies are filtered."""
        return self.metric if self.filter == "none" else f"{self.metric}-{self.filter}"


@dataclass(frozen=True)
class Answers:
    """What the model answered.

    Attributes:
        scores: Every metric of the task.
        items: One object a question.
        reply_tokens: Forward steps of each generated reply.
        prompt_tokens: Tokens of their prompts.
    """

    scores: list[Score]
    items: list[dict[str, Any]]
    reply_tokens: list[int] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)


def ask(questions: Questions, decoder: Decoder, batch_size: int) -> Answers:
    """Ask a model a task's questions.

    lm-eval's response cache is not used: its key does not contain the model. Model and tokenizer
    are not changed. When memory runs out, the batch size is halved and the task is asked again.

    Args:
        questions: The questions.
        decoder: The model; generates under the run's schedule.
        batch_size: Answers scored, or replies generated, together.
    """
    from lm_eval.evaluator import evaluate

    from flrc.evaluation.lm_eval_replies import ScheduledModel

    task, model = questions.task, decoder.model
    built = build_task(questions)
    # A last token is never fed, so that a prompt and its reply may be one token longer.
    longest = longest_of(model.config) + (built.OUTPUT_TYPE == GENERATION)
    own = copy.deepcopy(decoder.tokenizer)  # lm-eval sets a padding token on it
    while True:
        built.set_fewshot_seed(EXAMPLE_SEED)
        with ties_kept(model), quiet("lm_eval.models.huggingface"):
            wrapped = ScheduledModel(
                decoder,
                pretrained=model,
                tokenizer=own,
                batch_size=batch_size,
                max_length=longest,
            )
        try:
            with within_flrc():
                results = evaluate(
                    lm=wrapped,
                    task_dict={"tasks": {task: built}},
                    limit=questions.limit,
                    bootstrap_iters=RESAMPLES,
                    confirm_run_unsafe_code=questions.run_code,
                )
            break
        except (RuntimeError, MemoryError) as error:
            batch_size = halved(batch_size, error)
        free_memory()
    by_question: dict[int, list[dict[str, Any]]] = {}
    for sample in results["samples"][task]:
        by_question.setdefault(int(sample["doc_id"]), []).append(sample)
    items = [_item(built, questions, by_question[index]) for index in sorted(by_question)]
    scores = _scores(task, results["results"][task], results["higher_is_better"][task])
    return Answers(scores, items, wrapped.reply_tokens, wrapped.prompt_tokens)


def _scores(task: str, values: dict[str, Any], directions: dict[str, bool | None]) -> list[Score]:
    """Every metric that is a number and of which lm-eval says which direction is better."""
    scores = []
    for key, value in values.items():
        metric, _, kind = key.partition(",")
        if not kind or metric.endswith("_stderr"):
            continue
        higher = directions.get(metric)
        if higher is None or not isinstance(value, int | float):
            log.warning("%s: %s is left out: lm-eval does not say what is better", task, metric)
            continue
        stderr = values.get(f"{metric}_stderr,{kind}")
        unit = 100 if metric in SHARES else 1
        scores.append(
            Score(
                metric,
                kind,
                unit * float(value),
                unit * float(stderr) if isinstance(stderr, int | float) else None,
                bool(higher),
            )
        )
    return scores


def _item(
    task: ConfigurableTask, questions: Questions, samples: list[dict[str, Any]]
) -> dict[str, Any]:
    """What is stored of one question; ``samples`` differ in the filter of the replies."""
    import numpy as np

    sample, index = samples[0], int(samples[0]["doc_id"])
    row = questions.rows[index] if questions.task in PAPER_TASKS else sample["doc"]
    item: dict[str, Any] = {"id": str(row.get("id", index))}
    if task.OUTPUT_TYPE == GENERATION:
        item["reply"] = sample["resps"][0][0]
    elif task.OUTPUT_TYPE == "loglikelihood_rolling":
        item["loglikelihood"] = float(sample["filtered_resps"][0])
    elif task.OUTPUT_TYPE == "loglikelihood":
        item["loglikelihood"] = float(sample["filtered_resps"][0][0])
    else:
        scores = [float(score) for score, _ in sample["filtered_resps"]]
        chosen = scores[: len(task.doc_to_choice(sample["doc"]))]
        item |= {
            "loglikelihoods": scores,
            "predicted": int(np.argmax(chosen)),
            "gold": gold_of(task, sample["doc"]),
        }
    if questions.task in PAPER_TASKS:
        item["correct"] = bool(sample["acc"])
        if item["correct"] != (item["predicted"] == item["gold"]):
            raise RuntimeError(
                f"{questions.task}: lm-eval does not score by the most likely choice: {item}"
            )
        return item
    for sample in samples:
        item |= _means(task, sample)
    return item


def _means(task: ConfigurableTask, sample: dict[str, Any]) -> dict[str, float]:
    """The question's values of metrics that are their mean, in the metrics' units."""
    from lm_eval.api.metrics import mean

    return {
        Score(metric, sample["filter"], 0.0, None, True).name: (100 if metric in SHARES else 1)
        * float(sample[metric])
        for metric in sample["metrics"]
        if task.aggregation().get(metric) is mean and isinstance(sample[metric], bool | int | float)
    }
