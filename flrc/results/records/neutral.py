"""Measurements of which neither a larger nor a smaller value is better."""

from __future__ import annotations

NEUTRAL = frozenset({"targets/stored", "model/bytes_of_dense", "model/flops_of_dense"})
"""Shares for which neither direction is better."""
COSTS = "healing/"
"""What a name begins with that says what a run took or how it went, not how good its model is."""
RATES = frozenset({"rate", "rate_per_token"})
"""Metrics that say at which rate a data set was measured."""


def is_neutral(name: str) -> bool:
    """Whether neither direction is better: for counts, rates, baselines and descriptions."""
    _, slash, metric = name.rpartition("/")
    described = metric == "reply_tokens" or metric.startswith("copy_") or metric in RATES
    return not slash or described or name in NEUTRAL or name.startswith(COSTS)
