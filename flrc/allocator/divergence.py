"""How far a cut model is from the dense one on the same tokens (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Divergence:
    """Means over the predicted tokens of all sequences (a sequence's first is not predicted).

    Attributes:
        nll: Negative log likelihood of the tokens under the cut model, in nats per token.
        kl: ``KL(dense || cut)`` of the next-token distributions, in nats per token.
    """

    nll: float
    kl: float

    @property
    def perplexity(self) -> float:
        """``exp(nll)``; infinite where that overflows or is no number."""
        return math.exp(self.nll) if self.nll < 700 else math.inf

    @property
    def loss(self) -> float:
        """``nll``, or infinity where it is no number: a broken model is the worst there is."""
        return self.nll if math.isfinite(self.nll) else math.inf


class MeanDivergence:
    """Divergence of sequences that arrive one after another; sums are float64."""

    def __init__(self) -> None:
        self._nll = self._kl = 0.0
        self._count = 0

    def add(
        self,
        dense: Float[Tensor, "*batch vocabulary"],
        cut: Float[Tensor, "*batch vocabulary"],
        tokens: Int[Tensor, "*batch"],
    ) -> None:
        """Add log-probabilities of both models for the tokens that came next."""
        self._nll -= float(cut.gather(-1, tokens[..., None]).double().sum())
        distances = nn.functional.kl_div(cut, dense, reduction="none", log_target=True).sum(-1)
        self._kl += float(distances.double().sum())
        self._count += tokens.numel()

    def result(self) -> Divergence:
        """The means."""
        return Divergence(self._nll / self._count, self._kl / self._count)


def log_probabilities(logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
    """In float32 or wider, whatever the model's dtype."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
