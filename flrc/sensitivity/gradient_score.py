"""Scores from gradient statistics."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.errors import choose
from flrc.sensitivity.base import Sensitivity

REDUCTIONS = ("per_sequence", "aggregate")


@dataclass
class GradientScore(Sensitivity):
    """A score that reads the gradient statistics of the calibration loss.

    Attributes:
        reduction: ``per_sequence``: the gradient of each sequence is squared. ``aggregate``: that
            of the whole calibration set is squared.
    """

    reduction: str = "per_sequence"

    def check(self) -> None:
        """Checks the reduction."""
        choose("sensitivity.reduction", self.reduction, REDUCTIONS)
