"""Every layer decomposed again for the inputs that the compressed layers before it hand on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.refine.base import Refinement

if TYPE_CHECKING:
    from flrc.decomposition.factors import Factors
    from flrc.decomposition.statistics import Statistics
    from flrc.plans.rank_plan import RankPlan


@dataclass
class Propagated(Refinement):
    """One pass in the order of the model: a layer makes up for part of the error at its inputs.

    With ``x`` the inputs of a layer in the dense model and ``x'`` its inputs behind the compressed
    layers before it, ``C' = mean x' x'^T`` and ``M = mean x x'^T``, the weight is first moved
    towards the one that maps ``x'`` to the dense outputs, and then decomposed at its planned rank
    in the metric of the inputs, ``x`` and ``x'`` pooled::

        W* = W + strength * W (M - C') (C' + (prior d / N) mean(diag C') I)^-1

    for ``N`` tokens and ``d`` input channels. ``strength`` 1 is least squares. It is not the best
    choice: least squares shrinks what the noise in ``x'`` hides, layer after layer. The damping is
    what ``prior d`` tokens with ``x' = x`` would have added, so few tokens correct less than many.
    No training: one solve and one SVD a layer.

    Source: the correction of the weight is Quantization Error Propagation's (arXiv 2504.09629),
        there before rounding, with a strength as well (0.5).
    Differs: before a truncation; damping by the number of tokens instead of a fixed share; with the
        gradients' Gram (if the decomposition is two-sided) as measured on the dense model.

    Attributes:
        strength: Share of the least-squares correction of the weight that is applied, 0 to 1.
        prior: Damping, in error-free tokens per input channel: few tokens correct less.
        samples: Number of calibration sequences used, from the first; all if there are fewer.
    """

    name: str = "propagated"
    strength: float = 0.3
    prior: float = 1.0
    samples: int = 12

    def check(self) -> None:
        """Ranges."""
        self.require(0 <= self.strength <= 1, "strength", "a number in [0, 1]")
        self.require(self.prior > 0, "prior", "a number above 0")
        self.require(self.samples >= 1, "samples", "1 or more")

    def refine(
        self, statistics: Statistics, plan: RankPlan
    ) -> Iterator[tuple[int, dict[str, Factors]]]:
        """See the class."""
        from flrc.refine.side_by_side import propagated_factors

        return propagated_factors(self, statistics, plan)
