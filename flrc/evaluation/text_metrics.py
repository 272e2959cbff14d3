"""ROUGE-L and BERTScore as ``evaluate`` metrics that need no hub."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import datasets
import evaluate

from flrc.evaluation.bertscore_models import bertscore_model
from flrc.evaluation.text_checks import check_known, check_words, is_blank, warn_of_truncation
from flrc.evaluation.words import make_tokenizer

_FEATURES = datasets.Features(
    {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
)


class _TextMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric whose texts stay in memory: ``evaluate`` makes no folder and no file for them."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _build_data_dir(self) -> str:
        return ""


class RougeL(_TextMetric):
    """F1 of the longest common subsequence of stemmed words, one value a pair, in [0, 1].

    A blank prediction or reference scores 0, the library's own convention.

    Source: Lin 2004, as ``rouge_score`` implements it (sentence-level ``rougeL``, Porter stemmer
        on).
    Differs: a reference of which the ``default`` tokenizer would lose more than
        :data:`~flrc.evaluation.text_checks.MOST_LOST` is a UserError; ``unicode`` keeps the words
        of any script. Below that share the default tokenizer splits words at letters other than a
        to z and drops what is left of them, in predictions always ("café" is "caf").
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="ROUGE-L F1",
            citation="Lin 2004",
            inputs_description="texts",
            features=_FEATURES,
        )

    def _compute(
        self, predictions: list[str], references: list[str], tokenizer: str = "default"
    ) -> dict[str, list[float]]:
        from rouge_score.rouge_scorer import RougeScorer

        for number, reference in enumerate(references, start=1):
            check_words(reference, tokenizer, f"reference {number}")
        scorer = RougeScorer(["rougeL"], tokenizer=make_tokenizer(tokenizer))
        return {
            "rougeL": [
                scorer.score(reference, prediction)["rougeL"].fmeasure
                for prediction, reference in zip(predictions, references, strict=True)
            ]
        }


class BertScoreF1(_TextMetric):
    """F1 of greedily matched token embeddings, unrescaled, one value a pair, in [-1, 1].

    A blank prediction or reference scores 0, the library's own convention (with transformers 5 the
    library itself fails on it). Of a longer text the encoder reads the beginning (510 tokens of
    ``minilm``), which is said.

    Source: Zhang et al. 2019, as ``bert_score`` implements it.
    Differs: a reference of which more than :data:`~flrc.evaluation.text_checks.MOST_LOST` is
        unknown to the encoder is a UserError.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="BERTScore F1",
            citation="Zhang et al. 2019",
            inputs_description="texts",
            features=_FEATURES,
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        model: str = "minilm",
        device: str = "cpu",
    ) -> dict[str, list[float]]:
        scores = [0.0] * len(predictions)
        spoken = [
            i
            for i, pair in enumerate(zip(predictions, references, strict=True))
            if not any(map(is_blank, pair))
        ]
        for i in spoken:
            check_known(references[i], model, f"reference {i + 1}")
        if spoken:
            said, asked = ([texts[i] for i in spoken] for texts in (predictions, references))
            warn_of_truncation(said, model, "predictions")
            _, _, f1 = _scorer(model, device).score(said, asked)
            for i, value in zip(spoken, f1.tolist(), strict=True):
                scores[i] = value
        return {"bertscore_f1": scores}


@lru_cache(maxsize=1)
def _scorer(model: str, device: str) -> Any:
    from bert_score import BERTScorer

    encoder = bertscore_model(model)
    with encoder.network():
        return BERTScorer(
            model_type=encoder.location,
            num_layers=encoder.layer,
            device=device,
            rescale_with_baseline=False,
        )
