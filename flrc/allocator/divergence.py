"""Loss of a truncated model and its KL divergence from the dense one (pure maths)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flrc.errors import UserError


@dataclass(frozen=True)
class Divergence:
    """Means over the predicted tokens of all sequences (the first of each is not predicted).

    Attributes:
        nll: Negative log-likelihood of the tokens under the truncated model, in nats per token.
        kl: ``KL(dense || truncated)`` of the next-token distributions, in nats per token.
    """

    nll: float
    kl: float

    @property
    def perplexity(self) -> float:
        """``exp(nll)``; infinite where that overflows or is NaN."""
        return math.exp(self.nll) if self.nll < 700 else math.inf

    @property
    def loss(self) -> float:
        """``nll``; infinite where it is not finite, so that a broken model ranks last."""
        return self.nll if math.isfinite(self.nll) else math.inf


class MeanDivergence:
    """Accumulates the divergence of sequences that arrive one by one, in float64."""

    def __init__(self) -> None:
        self._nll = self._kl = 0.0
        self._count = 0

    def add(
        self,
        dense: Float[Tensor, "*batch vocabulary"],
        truncated: Float[Tensor, "*batch vocabulary"],
        tokens: Int[Tensor, "*batch"],
    ) -> None:
        """Add the log-probabilities of both models, and the tokens that did come next."""
        self._nll -= float(truncated.gather(-1, tokens[..., None]).double().sum())
        kl = nn.functional.kl_div(truncated, dense, reduction="none", log_target=True).sum(-1)
        self._kl += float(kl.double().sum())
        self._count += tokens.numel()

    def result(self) -> Divergence:
        """The means over all tokens added."""
        return Divergence(self._nll / self._count, self._kl / self._count)


def log_probabilities(logits: Float[Tensor, "*batch v"]) -> Float[Tensor, "*batch v"]:
    """Log-softmax in float32 or wider, whatever the model's dtype."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def no_finite_loss(where: str, given: str) -> UserError:
    """The error of a search in which every model that was measured is broken."""
    return UserError(
        f"the truncated model gave no finite loss {where}",
        given=given,
        allowed="a rate at which the model still gives finite numbers",
        fix="a lower rate, or dtype=float32",
    )
