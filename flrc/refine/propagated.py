"""Every layer decomposed again for the inputs that the compressed layers before it hand on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.refine.base import Decided, Refinement

if TYPE_CHECKING:
    from flrc.decomposition.factors import Factors


@dataclass
class Propagated(Refinement):
    """One pass in the order of the model: a layer makes up for part of the error at its inputs.

    With ``x`` the inputs of a layer in the dense model and ``x'`` its inputs behind the compressed
    layers before it, ``C' = mean x' x'^T`` and ``M = mean x x'^T``, the weight is first moved
    towards the one that maps ``x'`` to the dense outputs, and then decomposed at its planned rank
    in the metric of ``x'``::

        W* = W + strength * W (M - C') (C' + damping mean(diag C') I)^-1

    ``strength`` 1 is least squares. It is not the best choice: least squares shrinks what the noise
    in ``x'`` hides, layer after layer. No training: one solve and one SVD a layer.

    Source: the correction of the weight is Quantization Error Propagation's (arXiv 2504.09629),
        there before rounding, with the same strength.
    Differs: before a truncation, with the gradients' Gram (if the decomposition is two-sided) as
        measured on the dense model.

    Attributes:
        strength: Share of the least-squares correction, 0 to 1.
        damping: Share of the mean diagonal of ``C'`` that is added to it.
        samples: Calibration sequences that are used, from the first on; all if there are fewer.
    """

    name: str = "propagated"
    strength: float = 0.3
    damping: float = 0.01
    samples: int = 16

    def check(self) -> None:
        """Ranges."""
        self.require(0 <= self.strength <= 1, "strength", "a number in [0, 1]")
        self.require(self.damping > 0, "damping", "a number above 0")
        self.require(self.samples >= 1, "samples", "1 or more")

    def refine(self, decided: Decided) -> Iterator[tuple[int, dict[str, Factors]]]:
        """See the class."""
        from flrc.refine.propagation import propagated_factors

        return propagated_factors(decided, self.strength, self.damping, self.samples)
