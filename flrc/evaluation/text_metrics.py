"""ROUGE-L and BERTScore as ``evaluate`` metrics that need no hub."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import datasets
import evaluate

from flrc.evaluation.bertscore_models import bertscore_model
from flrc.network import online

_FEATURES = datasets.Features(
    {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
)


class RougeL(evaluate.Metric):  # type: ignore[misc]
    """F1 of the longest common subsequence of stemmed words, one value a pair, in [0, 1].

    Source: Lin 2004, as ``rouge_score`` implements it (sentence-level ``rougeL``, Porter stemmer
        on).
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="ROUGE-L F1",
            citation="Lin 2004",
            inputs_description="texts",
            features=_FEATURES,
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, list[float]]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], use_stemmer=True)
        return {
            "rougeL": [
                scorer.score(reference, prediction)["rougeL"].fmeasure
                for prediction, reference in zip(predictions, references, strict=True)
            ]
        }


class BertScoreF1(evaluate.Metric):  # type: ignore[misc]
    """F1 of greedily matched token embeddings, unrescaled, one value a pair, in [-1, 1].

    Source: Zhang et al. 2019, as ``bert_score`` implements it. An empty prediction scores 0, the
        library's own
    convention (with transformers 5 the library itself fails on it).
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
        spoken = [i for i, text in enumerate(predictions) if text.strip()]
        if spoken:
            _, _, f1 = _scorer(model, device).score(
                [predictions[i] for i in spoken], [references[i] for i in spoken]
            )
            for i, value in zip(spoken, f1.tolist(), strict=True):
                scores[i] = value
        return {"bertscore_f1": scores}


@lru_cache(maxsize=1)
def _scorer(model: str, device: str) -> Any:
    from bert_score import BERTScorer

    encoder = bertscore_model(model)
    with online() if encoder.from_hub else nullcontext():
        return BERTScorer(
            model_type=encoder.location,
            num_layers=encoder.layer,
            device=device,
            rescale_with_baseline=False,
        )
