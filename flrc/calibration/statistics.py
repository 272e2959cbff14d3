"""Accumulators of calibration statistics (pure maths: no model, hook or file)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.errors import UserError

SQUARED = (2.0**-50, 2.0**50)
"""Range of largest magnitudes whose squares are summed in float32 without loss."""


def not_finite(numbers: str) -> UserError:
    """The error of a calibration in which these numbers overflowed or are NaN."""
    return UserError(
        f"{numbers} are not finite",
        allowed="finite numbers on all calibration sequences",
        fix="a dtype with a wider range (dtype=float32 or dtype=bfloat16), or an intact checkpoint",
    )


def summable(x: Tensor) -> Tensor:
    """``x`` in a dtype in which sums of its squares neither overflow nor underflow.

    At least float32; float64 where the largest magnitude is outside of :data:`SQUARED`.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    largest = float(torch.stack(x.aminmax()).abs().max()) if x.numel() else 0.0
    return x if largest == 0 or SQUARED[0] <= largest <= SQUARED[1] else x.double()


class _GramStatistics:
    gram: Tensor

    @property
    def finite(self) -> bool:
        """Whether all vectors that were added are finite."""
        return bool(torch.isfinite(self.gram.diagonal()).all())

    @property
    def zero(self) -> bool:
        """Whether all vectors that were added are zero."""
        return not bool(self.gram.diagonal().any())


@dataclass(frozen=True)
class InputStatistics(_GramStatistics):
    """Statistics of the inputs of one layer (shared by all layers of an input group).

    Attributes:
        gram: ``(d_in, d_in)`` float64, mean over tokens of ``x x^T``.
        mean_abs: ``(d_in,)`` float64, mean over tokens of ``|x|``.
        tokens: Number of tokens seen.
    """

    gram: Float[Tensor, "n n"]
    mean_abs: Float[Tensor, " n"]
    tokens: int

    def to(self, device: torch.device) -> InputStatistics:
        """The same on another device."""
        return InputStatistics(self.gram.to(device), self.mean_abs.to(device), self.tokens)

    def pooled(self, other: InputStatistics) -> InputStatistics:
        """Statistics of the tokens of both."""
        tokens = self.tokens + other.tokens
        mine, theirs = self.tokens / tokens, other.tokens / tokens
        mean_abs = mine * self.mean_abs + theirs * other.mean_abs
        return InputStatistics(mine * self.gram + theirs * other.gram, mean_abs, tokens)


@dataclass(frozen=True)
class OutputStatistics(_GramStatistics):
    """Statistics of the loss gradients at the outputs of one target.

    Attributes:
        gram: ``(d_out, d_out)``, mean over tokens of ``g g^T``, with ``g`` the gradient of a
            sequence's summed token loss with respect to the target's output at one token.
        tokens: Number of tokens seen.
    """

    gram: Float[Tensor, "m m"]
    tokens: int

    def to(self, device: torch.device) -> OutputStatistics:
        """The same on another device."""
        return OutputStatistics(self.gram.to(device), self.tokens)


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of one block.

    Attributes:
        block: Index of the block.
        inputs: By input group; empty where nothing reads them.
        outputs: By target name; empty where nothing reads them.
    """

    block: int
    inputs: dict[str, InputStatistics]
    outputs: dict[str, OutputStatistics]


class InputAccumulator:
    """Sums ``x x^T`` and ``|x|`` over chunks of tokens.

    Products are computed in the inputs' dtype, at least float32 (:func:`summable`), and summed in
    float64. For chunks of a few thousand tokens the rounding error is negligible.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.abs = torch.zeros(width, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, inputs: Float[Tensor, "*batch n"]) -> None:
        """Add the tokens of one chunk, without padding."""
        x = summable(inputs.detach().reshape(-1, inputs.shape[-1]))
        self.gram += x.T @ x
        self.abs += x.abs().sum(0, dtype=torch.float64)
        self.tokens += x.shape[0]

    def result(self) -> InputStatistics:
        """Means over all tokens; zeros if there was none."""
        tokens = max(self.tokens, 1)
        return InputStatistics(self.gram / tokens, self.abs / tokens, self.tokens)


def logit_gradients(
    logits: Float[Tensor, "t v"],
    following: Int[Tensor, " t"],
    labels: str,
    generator: torch.Generator,
) -> Float[Tensor, "t v"]:
    """Gradient, with respect to the logits, of the loss whose curvature is measured.

    ``data``: ``p - y``, for the summed cross entropy of the text's next tokens ``y``. ``model``:
    ``sqrt(p) e - p sum(sqrt(p) e)`` with ``e`` standard normal. Its mean is 0 and its covariance
    ``diag(p) - p p^T``, the Hessian of the cross entropy: as for labels drawn from the model, but
    with lighter tails. ``both``: their sum over ``sqrt(2)``; as the second has mean 0, the expected
    Gram matrix is the mean of the two. Logits are at least float32, with the generator on their
    device.

    Source: Martens and Grosse (arXiv 1503.05671), section 5, for the model's own labels.
    """
    p = logits.detach().softmax(-1)
    # In place where possible: a sequence's logits are the largest tensors of the pass.
    gradient = None
    if labels in ("model", "both"):
        gradient = torch.empty_like(p).normal_(generator=generator).mul_(p.sqrt())
        gradient -= p * gradient.sum(-1, keepdim=True)
    if labels in ("data", "both"):
        gradient = p if gradient is None else gradient.add_(p)
        gradient[torch.arange(len(p), device=p.device), following] -= 1
    assert gradient is not None
    return gradient.div_(2**0.5) if labels == "both" else gradient


def token_gradients(
    gradients: Float[Tensor, "t m"], settings: OutputGradientSettings
) -> Float[Tensor, "s m"]:
    """The gradients of one sequence, with its ends dropped and the norms clipped.

    Source: KFAC-SVD (LEMS, openreview IjIgNPFuCt).
    """
    drop = int(settings.drop * len(gradients))
    kept = gradients[drop : len(gradients) - drop]
    if settings.clip is None:
        return kept
    norms = kept.norm(dim=1, keepdim=True)
    low, high = (bound * norms.mean() for bound in settings.clip)
    # A zero gradient has no direction and cannot be scaled up.
    scale = torch.where(norms > 0, norms.clamp(low, high) / norms, torch.zeros_like(norms))
    return kept * scale


class OutputAccumulator:
    """Sums ``g g^T`` over the tokens of sequences, in the dtype of :func:`summable` gradients.

    Over hundreds of sequences the rounding error in float32 is far below the effect of shrinkage,
    at half the memory of float64.
    """

    def __init__(
        self,
        width: int,
        device: torch.device | str = "cpu",
        settings: OutputGradientSettings | None = None,
    ) -> None:
        self.settings = settings or OutputGradientSettings()
        self.gram = torch.zeros(width, width, dtype=torch.float32, device=device)
        self.tokens = 0

    def add(self, gradients: Float[Tensor, "*batch m"]) -> None:
        """Add the tokens of one sequence."""
        g = summable(gradients.detach().reshape(-1, gradients.shape[-1]))
        g = token_gradients(g, self.settings)
        dtype = torch.promote_types(self.gram.dtype, g.dtype)
        self.gram, g = self.gram.to(dtype), g.to(dtype)
        self.gram.addmm_(g.T, g)
        self.tokens += g.shape[0]

    def result(self) -> OutputStatistics:
        """Mean over all tokens; zeros if there was none."""
        return OutputStatistics(self.gram / max(self.tokens, 1), self.tokens)


@dataclass(frozen=True)
class GradientStatistics:
    """Sums over one weight's entries, from gradients of the calibration loss.

    ``G_s`` is the gradient of the summed token loss of sequence ``s``, ``T_s`` its number of
    predicted tokens. *Per sequence*: ``G^2 = sum_s G_s^2 / T_s``, the empirical Fisher information
    over sequences, normalised for their lengths. *Aggregated*: ``G^2 = (sum_s G_s)^2 / sum_s T_s``,
    Algorithm 1 of FLRC to the letter.

    Attributes:
        importance: ``sum_i (G_i W_i)^2`` (FLRC eq. 1).
        gradient: ``sum_i G_i^2`` (FLRC eq. 5).
    """

    importance: float
    gradient: float

    def __add__(self, other: GradientStatistics) -> GradientStatistics:
        return GradientStatistics(
            self.importance + other.importance, self.gradient + other.gradient
        )


def gradient_sums(
    gradient: Float[Tensor, "m n"], weight: Float[Tensor, "m n"], tokens: int
) -> GradientStatistics:
    """Statistics of one gradient, divided by its tokens (not in float16, whose squares underflow).

    Source: FLRC (arXiv 2510.09332), eq. 1 and 5.
    """
    g = summable(gradient.detach().float())
    return GradientStatistics(
        importance=_sum_of_squares(g * summable(weight.detach().float())) / tokens,
        gradient=_sum_of_squares(g) / tokens,
    )


def _sum_of_squares(x: Float[Tensor, "m n"]) -> float:
    """Dot products over chunks of a million entries, in float32 if possible, summed in float64."""
    parts = [torch.dot(part, part) for part in torch.split(summable(x).flatten(), 1 << 20)]  # type: ignore[no-untyped-call]
    return float(torch.stack(parts).double().sum())
