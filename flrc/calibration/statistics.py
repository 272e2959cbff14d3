"""Pure, mergeable accumulators of what calibration sees (no model, no hook, no file)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class InputStatistics:
    """What calibration knows of the inputs of one layer (shared by all layers of an input group).

    Attributes:
        gram: ``(d_in, d_in)`` float64, mean over tokens of ``x x^T``.
        mean_abs: ``(d_in,)`` float64, mean over tokens of ``|x|``.
        tokens: Number of tokens seen.
    """

    gram: Float[Tensor, "n n"]
    mean_abs: Float[Tensor, " n"]
    tokens: int


class InputAccumulator:
    """Sums ``x x^T`` and ``|x|`` over chunks of tokens.

    Products are taken in the inputs' dtype, at least float32, and summed in float64: a chunk of
    some thousand tokens loses nothing that matters, and float64 inputs stay exact.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.abs = torch.zeros(width, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, inputs: Float[Tensor, "*batch n"]) -> None:
        """Add the tokens of one chunk; no padding may be among them."""
        x = inputs.detach().reshape(-1, inputs.shape[-1])
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        self.gram += x.T @ x
        self.abs += x.abs().sum(0, dtype=torch.float64)
        self.tokens += x.shape[0]

    def merge(self, other: InputAccumulator) -> None:
        """Add what another accumulator has seen."""
        self.gram += other.gram.to(self.gram.device)
        self.abs += other.abs.to(self.abs.device)
        self.tokens += other.tokens

    def result(self) -> InputStatistics:
        """Means over all tokens seen.

        Raises:
            ValueError: If no token was seen, or an input was not finite.
        """
        if self.tokens == 0:
            raise ValueError("no calibration token reached this layer")
        if not bool(torch.isfinite(self.gram.diagonal()).all()):
            raise ValueError("calibration inputs are not finite")
        return InputStatistics(self.gram / self.tokens, self.abs / self.tokens, self.tokens)


@dataclass(frozen=True)
class GradientStatistics:
    """Sums over one weight's entries, from gradients of the calibration loss.

    ``G_s`` is the gradient of the summed token loss of sequence ``s``, ``T_s`` its number of
    predicted tokens. *Per sequence*: ``sum_s G_s^2 / T_s``, the empirical Fisher information on
    sequences, so that sequences of different lengths mix. *Aggregated*: ``(sum_s G_s)^2 / sum_s
    T_s``, Algorithm 1 of FLRC to the letter.

    Attributes:
        importance: ``sum_i (G_i W_i)^2`` (FLRC eq. 1).
        gradient: ``sum_i G_i^2`` (FLRC eq. 5).
    """

    importance: float
    gradient: float


def gradient_sums(
    gradient: Float[Tensor, "m n"], weight: Float[Tensor, "m n"], tokens: int
) -> GradientStatistics:
    """Squares of one gradient over its token count (in float32: float16 squares underflow).

    Source: FLRC (arXiv 2510.09332), eq. 1 and 5.
    """
    g = gradient.detach().float()
    return GradientStatistics(
        importance=_sum_of_squares(g * weight.detach().float()) / tokens,
        gradient=_sum_of_squares(g) / tokens,
    )


def _sum_of_squares(x: Float[Tensor, "m n"]) -> float:
    """Chunks of a million entries as float32 dot products, their sum in float64."""
    parts = [torch.dot(part, part) for part in torch.split(x.flatten(), 1 << 20)]  # type: ignore[no-untyped-call]
    return float(torch.stack(parts).double().sum())
