"""The paper's score: squared product of gradient and weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.errors import choose
from flrc.sensitivity.base import Gradients, Sensitivity

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel

REDUCTIONS = ("per_sequence", "aggregate")


@dataclass
class Fisher(Sensitivity):
    """``alpha = sum_i (G_i W_i)^2``.

    Source: FLRC (arXiv 2510.09332), eq. 1.
    Differs: the gradient is squared per sequence by default, the empirical Fisher information;
        Algorithm 1 read literally squares the gradient of the whole calibration set.

    Attributes:
        reduction: ``per_sequence``: the gradient of each sequence is squared. ``aggregate``: that
            of the whole calibration set is squared.
    """

    name: str = "fisher"
    reduction: str = "per_sequence"

    def check(self) -> None:
        """The reduction exists."""
        choose("sensitivity.reduction", self.reduction, REDUCTIONS)

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Importance by target."""
        return {n: g.importance for n, g in gradients(self.reduction).items()}
