"""ROUGE-L and BERTScore as ``evaluate`` metrics that work without the hub."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import datasets
import evaluate

from flrc.core.library_output import without_bars
from flrc.evaluation.bertscore_models import bertscore_model
from flrc.evaluation.rouge_tokenizers import make_tokenizer
from flrc.evaluation.text_metric_checks import (
    check_known,
    check_words,
    is_blank,
    warn_of_truncation,
)


class _TextMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric that keeps its texts in memory, so that ``evaluate`` writes no files."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _build_data_dir(self) -> str:
        return ""


class RougeL(_TextMetric):
    """F1 of the longest common subsequence of stemmed words, one value per pair, in [0, 1].

    A blank prediction or reference scores 0, the library's own convention.

    Source: Lin 2004, as ``rouge_score`` implements it (sentence-level ``rougeL``, Porter stemmer
        on).
    Differs: if the ``default`` tokenizer would lose more of a reference than
        :data:`~flrc.evaluation.text_metric_checks.MOST_LOST`, a UserError is raised; ``unicode``
        keeps the words of any script. In predictions, and below that share, the default tokenizer
        splits words at letters other than a to z and drops these letters ("café" is "caf").
    """

    def _compute(
        self, predictions: list[str], references: list[str], tokenizer: str = "default"
    ) -> dict[str, list[float]]:
        from rouge_score.rouge_scorer import RougeScorer

        for number, reference in enumerate(references, start=1):
            check_words(reference, tokenizer, f"reference {number}")
        scorer = RougeScorer(["rougeL"], tokenizer=make_tokenizer(tokenizer))
        pairs = zip(references, predictions, strict=True)
        return {"rougeL": [scorer.score(*pair)["rougeL"].fmeasure for pair in pairs]}


class BertScoreF1(_TextMetric):
    """F1 of greedily matched token embeddings, unrescaled, one value per pair, in [-1, 1].

    A blank prediction or reference scores 0, the library's own convention (the library itself
    fails on it with transformers 5). The encoder reads only the beginning of a long text (510
    tokens with ``minilm``); a warning is logged.

    Source: Zhang et al. 2019, as ``bert_score`` implements it.
    Differs: if more of a reference than :data:`~flrc.evaluation.text_metric_checks.MOST_LOST` is
        unknown to the encoder, a UserError is raised.
    """

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        model: str = "minilm",
        device: str = "cpu",
    ) -> dict[str, list[float]]:
        scores = [0.0] * len(predictions)
        pairs = enumerate(zip(predictions, references, strict=True))
        scored = [i for i, pair in pairs if not any(map(is_blank, pair))]
        for i in scored:
            check_known(references[i], model, f"reference {i + 1}")
        if scored:
            candidates = [predictions[i] for i in scored]
            warn_of_truncation(candidates, model, "predictions")
            _, _, f1 = _scorer(model, device).score(candidates, [references[i] for i in scored])
            for i, value in zip(scored, f1.tolist(), strict=True):
                scores[i] = value
        return {"bertscore_f1": scores}


@lru_cache(maxsize=1)
def _scorer(model: str, device: str) -> Any:
    from bert_score import BERTScorer

    encoder = bertscore_model(model)
    with encoder.network(), without_bars():
        return BERTScorer(
            model_type=encoder.location,
            num_layers=encoder.layer,
            device=device,
            rescale_with_baseline=False,
        )
