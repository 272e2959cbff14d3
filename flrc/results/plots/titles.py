"""Printed names of data sets, models and metrics."""

from __future__ import annotations

from flrc.results.records.mean_name import MEAN, OF
from flrc.results.tables.columns import Column

DATASETS = {
    "decode": "Decoding",
    "wikitext2": "WikiText-2",
    "c4": "C4",
    "dialogsum": "DialogSum",
    "cnn_dailymail": "CNN/DailyMail",
    "zeroshot": "Zero-shot",
    "arc_easy": "ARC-e",
    "arc_challenge": "ARC-c",
    "hellaswag": "HellaSwag",
    "openbookqa": "OpenBookQA",
    "winogrande": "WinoGrande",
    "mathqa": "MathQA",
    "piqa": "PIQA",
}
MODELS = {
    "smollm2_135m": "SmolLM2-135M",
    "llama2_7b_chat": "Llama-2-7B-Chat",
    "llama2_13b": "Llama-2-13B",
    "llama_30b": "Llama-30B",
    "llama3_8b": "Llama-3-8B",
    "llama3_8b_instruct": "Llama-3-8B-Instruct",
    "llama3_2_3b": "Llama-3.2-3B",
    "random_llama3_2_1b": "shape of Llama-3.2-1B",
}
METRICS = {
    "rougeL": "ROUGE-L",
    "bertscore_f1": "BERTScore",
    MEAN: "accuracy",
    "acc": "accuracy",
    "tokens_per_second": "speed",
    "speedup": "speed-up",
}


def title_of(column: Column) -> str:
    """Data set, metric, unit and direction; a name that is not known stays as it is.

    Sample data keeps its name: its numbers are not those of the benchmark.
    """
    unit = f"({column.unit})" if column.unit not in {"", column.metric, "rate"} else ""
    known = DATASETS.get(column.group, column.group), _metric(column.metric)
    return " ".join(part for part in (*known, unit, column.arrow) if part)


def _metric(metric: str) -> str:
    """The printed name; that of a mean over other tasks than the paper's names them."""
    tasks = metric.removeprefix(OF)
    return METRICS.get(metric, metric) if tasks == metric else f"{METRICS[MEAN]} of {tasks}"
