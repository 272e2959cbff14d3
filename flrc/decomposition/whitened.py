"""SVD-LLM's truncation-aware whitening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.core.demand import Demand
from flrc.decomposition.base import Decomposition, Inputs, Outputs
from flrc.decomposition.demands import FEW, root_of_few, svd, transformed

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.decomposition.factors import Factors


@dataclass
class Whitened(Decomposition):
    """SVD of ``W L`` with ``L L^T`` the Gram of the inputs: minimises the layer's output error.

    Source: SVD-LLM (arXiv 2403.07378), section 3.1, whitening only (no update), as FLRC uses it
        (App. F).
    Differs: float64 throughout; a singular Gram takes the eigen path with a relative cutoff, a
        fallback that is recorded, where the published code silently shifts the spectrum.

    Attributes:
        cutoff: Singular Gram matrix only: eigenvalues below this share of the largest are raised to
            it.
    """

    VERSION: ClassVar[int] = 2
    """Not raised for the root of few tokens: it differs only in directions without energy, and the
    losses at all ranks are the same."""

    name: str = "whitened"
    cutoff: float = 1e-14

    def check(self) -> None:
        """Checks the cutoff."""
        self.require(0 < self.cutoff < 1, "cutoff", "a number in (0, 1)")

    def demand(self, d_out: int, d_in: int, tokens: int) -> Demand:
        """As any; the Gram matrix of few tokens takes another path to its root."""
        if FEW * tokens > d_in:
            return super().demand(d_out, d_in, tokens)
        rooted, changed = root_of_few(d_in, tokens), transformed(d_out, d_in, d_in)
        decomposed = svd(d_out, d_in, deficient=tokens < min(d_out, d_in))
        return rooted + changed + decomposed.holding(16 * d_in**2 + changed.held)

    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """``W = (U Sigma) (V^T L^-1)`` from the SVD of ``W L``."""
        from flrc.decomposition.truncation import gram_root, truncated

        if inputs is None:
            raise ValueError("whitened needs the Gram matrix of the layer's inputs")
        return truncated(weight, gram_root(inputs.gram, self.cutoff, inputs.tokens))
