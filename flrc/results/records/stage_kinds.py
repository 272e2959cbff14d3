"""What the stages of a run belong to, by their names."""

from __future__ import annotations

COMPRESSION = frozenset(
    {
        "statistics",
        "output gradients",
        "decomposition",
        "sensitivity",
        "allocation",
        "refinement",
        "healing",
        "surgery",
        "quantization",
    }
)
"""Stages that make the compressed model."""
SEARCHING = frozenset({"schedule"})
"""The stage that chooses the phases; nearly no time unless they are searched."""
PREPARATION = frozenset({"preflight", "load", "dense replies", "save"})
"""Stages that neither compress nor measure."""


def evaluates(stage: str) -> bool:
    """Whether a stage is part of an evaluation: every one that is none of the above."""
    return stage not in COMPRESSION | SEARCHING | PREPARATION
