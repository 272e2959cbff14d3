"""Searches that score schedules by replies generated on a calibration split."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError, choose
from flrc.evaluation.bertscore_models import bertscore_model
from flrc.evaluation.rouge_tokenizers import TOKENIZERS
from flrc.evaluation.text_metric_checks import check_pairs
from flrc.search.base import ScheduleSearch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource
    from flrc.data.summarization_pairs import Pair
    from flrc.data.token_sequences import TokenSequences

METRICS = ("rougeL", "bertscore_f1")


@dataclass
class GeneratingSearch(ScheduleSearch):
    """Scores schedules by the summaries generated under them.

    Attributes:
        dataset: Summarization data set that candidates are scored on.
        split: Its split; never the one that is evaluated.
        samples: Number of items that are drawn from the split.
        metric: ``rougeL`` or ``bertscore_f1``.
        max_new_tokens: Longest reply in tokens.
        max_prompt_tokens: Longest prompt in tokens; a longer source is truncated at its end.
        batch_size: Prompts generated together; does not change the result in float32.
        stored: Largest ratio of stored to dense parameters of the targets that a candidate may
            have; None for no limit.
        bertscore_model: ``minilm``, ``roberta-large`` or ``bert-base-multilingual-cased``, if the
            metric is BERTScore.
        rouge_tokenizer: ``default`` (words of a to z and 0 to 9) or ``unicode`` (words of any
            script), if the metric is ROUGE-L.
    """

    dataset: str = "dialogsum"
    split: str = "train"
    samples: int = 8
    metric: str = "rougeL"
    max_new_tokens: int = 48
    max_prompt_tokens: int = 1536
    batch_size: int = 16
    stored: float | None = None
    bertscore_model: str = "minilm"
    rouge_tokenizer: str = "default"

    def check(self) -> None:
        """Checks the metric and the sizes of prompts, replies and batches."""
        choose("search.metric", self.metric, METRICS)
        bertscore_model(self.bertscore_model)
        choose("search.rouge_tokenizer", self.rouge_tokenizer, TOKENIZERS)
        for name in ("samples", "max_new_tokens", "max_prompt_tokens", "batch_size"):
            self.require(getattr(self, name) >= 1, name, "an integer of at least 1")
        self.require(self.stored is None or self.stored > 0, "stored", "null, or a number above 0")

    def check_data(self, data: DataSource) -> None:
        """Checks that the split exists and is not evaluated on, and that the metric can run."""
        from flrc.data.dataset_catalog import choose_kind, find

        choose_kind("search.dataset", [self.dataset], "summarization")
        spec = find(self.dataset)
        if self.split == spec.evaluation_split:
            raise UserError(
                "a schedule must not be chosen on the split that it is evaluated on",
                given=f"search.split={self.split}",
                allowed=[split for split in spec.splits if split != self.split],
                fix="search.split=train",
            )
        try:
            data.check_available(self.dataset, self.split)
        except UserError as error:
            raise UserError(
                f"the schedule cannot be searched: {error.problem}",
                given=error.given,
                allowed=error.allowed,
                fix=f"{error.fix}; or search=none to use the schedule's own phases",
            ) from error
        if self.metric == "bertscore_f1":
            bertscore_model(self.bertscore_model).check_available()

    def drawn(self, data: DataSource, seed: int) -> list[Pair]:
        """The items that schedules are scored on.

        Raises:
            UserError: If the split has too few items.
        """
        from flrc.data.summarization_pairs import read_pairs

        available = read_pairs(data, self.dataset, self.split)
        if len(available) < self.samples:
            raise UserError(
                f"{data.label(self.dataset)}/{self.split} has too few items to search on",
                given=f"search.samples={self.samples}",
                allowed=f"at most {len(available)}",
                fix=f"search.samples={len(available)}",
            )
        return Random(seed).sample(available, self.samples)

    def token_sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> TokenSequences:
        """The prompts, after checking that every pair can be scored."""
        from flrc.data.summarization_pairs import chat_prompt
        from flrc.data.token_sequences import TokenSequences

        drawn = self.drawn(data, seed)
        check_pairs(
            drawn,
            f"{data.label(self.dataset)}/{self.split}",
            "search",
            rouge_tokenizer=self.rouge_tokenizer if self.metric == "rougeL" else None,
            bertscore=self.bertscore_model if self.metric == "bertscore_f1" else None,
        )
        return TokenSequences(
            f"a prompt of {self.dataset} with its reply, in the search for a schedule",
            [chat_prompt(pair, tokenizer, self.max_prompt_tokens).ids for pair in drawn],
            "search.max_prompt_tokens or search.max_new_tokens",
            self.max_new_tokens,
        )

    def inputs(self, data: DataSource) -> dict[str, Any]:
        """Settings and the split's content; without the batch size, which changes no result."""
        settings = self.describe()
        del settings["batch_size"]
        if self.rouge_tokenizer == "default":
            del settings["rouge_tokenizer"]  # keeps the ids from before this option existed
        content = data.fingerprint(self.dataset, self.split)
        return {**settings, "dataset": data.label(self.dataset), "data": content}
