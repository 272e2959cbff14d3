"""Ablation: the gradient alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.errors import choose
from flrc.sensitivity.base import Gradients, Sensitivity
from flrc.sensitivity.fisher import REDUCTIONS

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel


@dataclass
class Gradient(Sensitivity):
    """``alpha = sum_i G_i^2``.

    Source: FLRC (arXiv 2510.09332), eq. 5 (appendix B).

    Attributes:
        reduction: ``per_sequence`` or ``aggregate``, as in ``fisher``.
    """

    name: str = "gradient"
    reduction: str = "per_sequence"

    def check(self) -> None:
        """The reduction exists."""
        choose("sensitivity.reduction", self.reduction, REDUCTIONS)

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Squared gradient norm by target."""
        return {n: g.gradient for n, g in gradients(self.reduction).items()}
