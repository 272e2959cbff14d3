"""Whitening of a weight on both sides, by its inputs and by the gradients at its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.calibration.output_gradient_settings import LABELS, OutputGradientSettings
from flrc.decomposition.base import Decomposition, Inputs, Outputs
from flrc.errors import choose

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.decomposition.factors import Factors


@dataclass
class Kfac(Decomposition):
    """SVD of ``L_g^T W L_x``: ``C = L_x L_x^T`` the inputs', ``G = L_g L_g^T`` the gradients' Gram.

    To second order, with the inputs and gradients of a token taken as independent, a change ``dW``
    of a weight raises the model's loss by ``tr(G dW C dW^T) / 2 = ||L_g^T dW L_x||_F^2 / 2``. So
    the dropped squared singular values are comparable across all layers of the model.

    Source: KFAC-SVD (LEMS, openreview IjIgNPFuCt); Martens and Grosse (arXiv 1503.05671) for the
        factorisation of the curvature.
    Differs: the weight is multiplied by ``L_g^T``, as the formula demands (the public code
        multiplies by ``L_g``, which optimises another metric); float64; shrinkage depends on the
        number of tokens, where the published one is fixed; half of the gradients come from the
        model's own labels; by default no tokens are dropped and no gradient norms are clipped.

    Both Gram matrices ``M`` are estimates, and inverting an estimate amplifies its noise. Each is
    shrunk towards a multiple of the identity, ``(1 - a) M + a mean(diag M) I`` with
    ``1 - a = (1 - fixed) N / (N + prior d)`` for ``N`` tokens and ``d`` channels: the posterior
    mean under an isotropic inverse Wishart prior worth ``prior`` tokens per channel, so that an
    estimate from fewer tokens is trusted less.

    Attributes:
        input_shrinkage: Share of the mean diagonal that is mixed into the inputs' Gram matrix, in
            [0, 1), whatever the number of tokens.
        output_shrinkage: As ``input_shrinkage``, for the gradients' Gram matrix.
        input_prior: Tokens per channel of an isotropic prior on the inputs' Gram matrix; the fewer
            tokens are seen, the more it shrinks.
        output_prior: As ``input_prior``, for the gradients' Gram matrix.
        labels: Next tokens whose loss the gradients are of: ``data`` (those of the text), ``model``
            (drawn from the model's own distribution) or ``both``.
        drop_tokens: Share of each sequence's tokens left out of the gradients' Gram matrix at its
            beginning, and again at its end.
        clip: Bounds of a token's gradient norm as multiples of the sequence's mean; None for none.
        gradient_tokens: Tokens per output channel of the widest target after which no further
            sequence's gradients are taken, since they take most of the time; None for all.
        cutoff: Singular Gram matrix only: eigenvalues below this share of the largest are raised to
            it.
    """

    name: str = "kfac"
    input_shrinkage: float = 1e-6
    output_shrinkage: float = 0.0
    input_prior: float = 0.2
    output_prior: float = 2.0
    labels: str = "both"
    drop_tokens: float = 0.0
    clip: list[float] | None = None
    gradient_tokens: float | None = 10.0
    cutoff: float = 1e-14

    TWO_SIDED: ClassVar[bool] = True

    def check(self) -> None:
        """Checks shrinkage, priors and how gradients enter."""
        for name in ("input_shrinkage", "output_shrinkage"):
            self.require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)")
        for name in ("input_prior", "output_prior"):
            self.require(getattr(self, name) >= 0, name, "a number of at least 0")
        choose("decomposition.labels", self.labels, LABELS)
        self.require(0 <= self.drop_tokens < 0.5, "drop_tokens", "a number in [0, 0.5)")
        bounds = self.clip
        around = bounds is None or (len(bounds) == 2 and 0 <= bounds[0] <= 1 <= bounds[1])
        allowed = "null, or two multiples of the mean norm, one at most 1 and one at least 1"
        self.require(around, "clip", allowed, fix="decomposition.clip=[0.1,10]")
        tokens = self.gradient_tokens
        self.require(tokens is None or tokens > 0, "gradient_tokens", "null, or a number above 0")
        self.require(0 < self.cutoff < 1, "cutoff", "a number in (0, 1)")

    def gradients(self) -> OutputGradientSettings:
        """How gradients enter the Gram matrix of the outputs."""
        clip = None if self.clip is None else (self.clip[0], self.clip[1])
        return OutputGradientSettings(self.labels, self.drop_tokens, clip, self.gradient_tokens)

    def decompose(self, weight: Tensor, inputs: Inputs, outputs: Outputs = None) -> Factors:
        """``W = (L_g^-T U Sigma) (V^T L_x^-1)`` from the SVD of ``L_g^T W L_x``."""
        from flrc.decomposition.truncation import gram_root, shrinkage, shrunk, truncated

        if inputs is None or outputs is None:
            raise ValueError("kfac needs the Gram matrices of the layer's inputs and gradients")
        d_out, d_in = weight.shape
        x = shrinkage(self.input_shrinkage, self.input_prior, d_in, inputs.tokens)
        g = shrinkage(self.output_shrinkage, self.output_prior, d_out, outputs.tokens)
        return truncated(
            weight,
            gram_root(shrunk(inputs.gram, x), self.cutoff),
            gram_root(shrunk(outputs.gram, g), self.cutoff),
        )
