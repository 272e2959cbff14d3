"""Ordered low-rank factors of one weight: what every decomposition returns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

ZERO, DENSE = "zero", "dense"
"""How a dead layer is kept: see :attr:`Factors.kept`."""


@dataclass(frozen=True)
class Factors:
    """``W ~ left_t[:k].T @ right[:k]``: each prefix is the method's answer at rank ``k``.

    Attributes:
        left_t: ``(r, d_out)``, the left factor, rank-major.
        right: ``(r, d_in)``, the right factor, rank-major.
        spectrum: ``(r,)``, non-increasing singular values in the decomposition's own metric; the
            squared loss of rank ``k`` in that metric is ``sum(spectrum[k:] ** 2)``.
        rescue: Description of a numerical fallback; None if there was none.
        kept: ``zero``: the layer's output is 0 at any rank, so rank 0 suffices. ``dense``: there is
            no basis for a rank, so the layer stays dense. None: an allocator chooses the rank.
    """

    left_t: Float[Tensor, "r d_out"]
    right: Float[Tensor, "r d_in"]
    spectrum: Float[Tensor, " r"]
    rescue: str | None = None
    kept: str | None = None

    @property
    def rank(self) -> int:
        """Full rank ``r`` of the factors."""
        return len(self.spectrum)

    def to(self, dtype: torch.dtype) -> Factors:
        """The same with both factors in ``dtype``; the spectrum is unchanged."""
        return replace(self, left_t=self.left_t.to(dtype), right=self.right.to(dtype))

    def product(self, rank: int | None = None) -> Float[Tensor, "d_out d_in"]:
        """The approximation at ``rank`` (all ranks if None)."""
        return self.left_t[:rank].T @ self.right[:rank]


def truncation_losses(spectrum: Float[Tensor, " r"]) -> Float[Tensor, " r+1"]:
    """Squared loss at rank 0, 1, ... r in the decomposition's metric, float64."""
    energy = spectrum.double().square().flip(0).cumsum(0).flip(0)
    return torch.cat([energy, energy.new_zeros(1)])


def relative_error(spectrum: Float[Tensor, " r"], rank: int) -> float:
    """Relative error of truncating to ``rank`` in the decomposition's metric, in [0, 1].

    ``sqrt(sum of dropped squared singular values / sum of all)``; 0 for a zero weight.
    """
    energy = spectrum.double().square()
    total = float(energy.sum())
    return (float(energy[rank:].sum()) / total) ** 0.5 if total > 0 else 0.0
