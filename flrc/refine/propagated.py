"""Error propagation: every layer is decomposed again for the outputs of the compressed layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.core.demand import Demand
from flrc.plans.rank_plan import RankPlan
from flrc.refine.base import FactorsByBlock, Refinement

if TYPE_CHECKING:
    from flrc.decomposition.base import Decomposition
    from flrc.decomposition.statistics import Statistics
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class Propagated(Refinement):
    """One pass through the model in which each layer compensates part of its inputs' error.

    With ``x`` the inputs of a layer in the dense model, ``x'`` its inputs in the compressed model,
    ``C' = mean x' x'^T`` and ``M = mean x x'^T``, the weight is first moved towards the one that
    maps ``x'`` to the dense outputs, and then decomposed at its planned rank in the metric of ``x``
    and ``x'`` pooled::

        W* = W + strength * W (M - C') (C' + (prior d / N) mean(diag C') I)^-1

    for ``N`` tokens and ``d`` input channels. ``strength`` 1 is least squares, which is not the
    best choice: layer after layer it shrinks what the noise in ``x'`` hides. The damping equals the
    effect of ``prior d`` additional tokens with ``x' = x``, so few tokens correct less than many.
    No training: one solve and one SVD per layer.

    Source: the weight correction of Quantization Error Propagation (arXiv 2504.09629), applied
        there before rounding, also with a strength (0.5).
    Differs: applied before truncation; damping by the number of tokens instead of a fixed share; a
        two-sided decomposition's gradient Gram is that of the dense model.

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
        """Checks strength, prior and samples."""
        self.require(0 <= self.strength <= 1, "strength", "a number in [0, 1]")
        self.require(self.prior > 0, "prior", "a number above 0")
        self.require(self.samples >= 1, "samples", "an integer of at least 1")

    def demand(
        self, shape: ModelShape, lengths: Sequence[int], decomposition: Decomposition
    ) -> Demand:
        """A dense and a compressed pass side by side; a solve and a decomposition per layer.

        All sequences pass through a block as one batch, padded to the longest.
        """
        chosen = lengths[: self.samples]
        tokens, padded = sum(chosen), len(chosen) * max(chosen, default=0)
        batch = max(1, len(chosen))
        passes = shape.forward([padded // batch] * len(chosen), head=False, batch=batch) * 2
        fits = Demand()
        for target in shape.targets:
            m, n = target.d_out, target.d_in
            corrected = Demand(
                double=2 * n**3 / 3 + 4 * m * n**2,
                held=8 * (2 * n**2 + 2 * m * n),
            )
            pooled = sum(lengths) + tokens
            fits += corrected + decomposition.demand(m, n, pooled).holding(8 * m * n)
        widest = 0
        for block in shape.blocks:
            groups = {target.input_group: target.d_in for target in block.targets}
            widest = max(widest, sum(groups.values()))
            products = 4 * tokens * sum(width**2 for width in groups.values())
            sums = 2 * len(chosen) * sum(20 * width**2 for width in groups.values())
            fits += Demand(single=products, moved=sums)
        largest = max((target.d_in for target in shape.targets), default=0)
        states = padded * (2 * shape.width + widest) * shape.itemsize
        return (passes + fits).holding(states + 16 * largest**2)

    def refine(self, statistics: Statistics, plan: RankPlan) -> FactorsByBlock:
        """Factors of the corrected weights, block by block."""
        from flrc.refine.side_by_side import propagated_factors

        return propagated_factors(self, statistics, plan)
