"""The numbers that summarise a run where there is little room."""

from __future__ import annotations

from collections.abc import Iterable

from flrc.results.records.mean_name import MEAN, OF

METRICS = ("perplexity", "mean_acc", "rougeL", "bertscore_f1", "tokens_per_second", "speedup")
"""Metrics (a measurement's name after the data set) that are shown first, in this order."""


def headline(names: Iterable[str]) -> list[str]:
    """The measurements of the headline metrics; if there are none, the first three."""
    given = list(names)
    ranked = [(importance(name.rpartition("/")[2]), name) for name in given]
    chosen = sorted((pair for pair in ranked if pair[0] < len(METRICS)), key=lambda pair: pair[0])
    return [name for _, name in chosen] or given[:3]


def importance(metric: str) -> int:
    """The place in ``METRICS``, for any mean accuracy that of ``mean_acc``; else their number."""
    kind = MEAN if metric.startswith(OF) else metric
    return METRICS.index(kind) if kind in METRICS else len(METRICS)
