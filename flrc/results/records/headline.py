"""The numbers that summarise a run where there is little room."""

from __future__ import annotations

from collections.abc import Iterable

METRICS = ("perplexity", "mean_acc", "rougeL", "bertscore_f1", "tokens_per_second", "speedup")
"""Metrics (a measurement's name after the data set) that are shown first, in this order."""


def headline(names: Iterable[str]) -> list[str]:
    """The measurements of the headline metrics; if there are none, the first three."""
    given = list(names)
    chosen = [name for metric in METRICS for name in given if name.rpartition("/")[2] == metric]
    return chosen or given[:3]
