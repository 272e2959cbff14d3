"""Pure, mergeable accumulators of what calibration sees (no model, no hook, no file)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.errors import UserError

SQUARED = (2.0**-50, 2.0**50)
"""Range of largest magnitudes whose squares are summed in float32 without loss."""


def not_finite(what: str) -> UserError:
    """The error of calibration whose numbers overflowed: what it would give means nothing."""
    return UserError(
        f"{what} are not finite",
        allowed="finite numbers on all calibration sequences",
        fix="a dtype of wider range (dtype=float32 or dtype=bfloat16), or a sound checkpoint",
    )


def summable(x: Tensor) -> Tensor:
    """``x`` in a dtype in which sums of its squares neither overflow nor vanish.

    At least float32; float64 where the largest magnitude is not in :data:`SQUARED`, so that what is
    tiny is not taken for zero, nor what is huge for infinity. Zeros stay as they are.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    largest = float(torch.stack(x.aminmax()).abs().max()) if x.numel() else 0.0
    return x if largest == 0 or SQUARED[0] <= largest <= SQUARED[1] else x.double()


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

    @property
    def finite(self) -> bool:
        """Whether all inputs were."""
        return bool(torch.isfinite(self.gram.diagonal()).all())

    def to(self, device: torch.device) -> InputStatistics:
        """The same on another device."""
        return InputStatistics(self.gram.to(device), self.mean_abs.to(device), self.tokens)

    def pooled(self, other: InputStatistics) -> InputStatistics:
        """Of the tokens of both."""
        tokens = self.tokens + other.tokens
        mine, theirs = self.tokens / tokens, other.tokens / tokens
        return InputStatistics(
            mine * self.gram + theirs * other.gram,
            mine * self.mean_abs + theirs * other.mean_abs,
            tokens,
        )


@dataclass(frozen=True)
class OutputStatistics:
    """What calibration knows of the loss at the outputs of one target.

    Attributes:
        gram: ``(d_out, d_out)``, mean over tokens of ``g g^T``, with ``g`` the gradient of a
            sequence's summed token loss with respect to the target's output at one token.
        tokens: Number of tokens seen.
    """

    gram: Float[Tensor, "m m"]
    tokens: int

    @property
    def finite(self) -> bool:
        """Whether all gradients were."""
        return bool(torch.isfinite(self.gram.diagonal()).all())

    def to(self, device: torch.device) -> OutputStatistics:
        """The same on another device."""
        return OutputStatistics(self.gram.to(device), self.tokens)


@dataclass(frozen=True)
class BlockStatistics:
    """What calibration knows of one block.

    Attributes:
        block: Its index.
        inputs: By input group; empty where nothing reads them.
        outputs: By target name; empty where nothing reads them.
    """

    block: int
    inputs: dict[str, InputStatistics]
    outputs: dict[str, OutputStatistics]


class InputAccumulator:
    """Sums ``x x^T`` and ``|x|`` over chunks of tokens.

    Products are taken in the inputs' dtype, at least float32 (:func:`summable`), and summed in
    float64: a chunk of some thousand tokens loses nothing that matters, and float64 inputs stay
    exact.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.gram = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.abs = torch.zeros(width, dtype=torch.float64, device=device)
        self.tokens = 0

    def add(self, inputs: Float[Tensor, "*batch n"]) -> None:
        """Add the tokens of one chunk; no padding may be among them."""
        x = summable(inputs.detach().reshape(-1, inputs.shape[-1]))
        self.gram += x.T @ x
        self.abs += x.abs().sum(0, dtype=torch.float64)
        self.tokens += x.shape[0]

    def merge(self, other: InputAccumulator) -> None:
        """Add what another accumulator has seen."""
        self.gram += other.gram.to(self.gram.device)
        self.abs += other.abs.to(self.abs.device)
        self.tokens += other.tokens

    def result(self) -> InputStatistics:
        """Means over all tokens seen; zeros where no token was."""
        tokens = max(self.tokens, 1)
        return InputStatistics(self.gram / tokens, self.abs / tokens, self.tokens)


def logit_gradients(
    logits: Float[Tensor, "t v"],
    following: Int[Tensor, " t"],
    labels: str,
    generator: torch.Generator,
) -> Float[Tensor, "t v"]:
    """Gradient with respect to the logits of the loss whose curvature is measured.

    ``data``: ``p - y``, of the summed cross entropy of the text's next tokens ``y``. ``model``:
    ``sqrt(p) e - p sum(sqrt(p) e)`` with ``e`` standard normal, of mean 0 and covariance
    ``diag(p) - p p^T``, the curvature of the cross entropy itself: what labels drawn from the model
    would give, with lighter tails. ``both``: their sum over ``sqrt(2)``; the second has mean 0, so
    the Gram matrix is the mean of the two.

    Args:
        logits: At least float32.
        following: The next tokens of the text.
        labels: One of :data:`~flrc.calibration.output_gradient_settings.LABELS`.
        generator: On the logits' device.

    Source: Martens and Grosse (arXiv 1503.05671), section 5, for the model's own labels.
    """
    p = logits.detach().softmax(-1)
    # In place where it can be: a sequence's logits are the largest tensors of the pass.
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
    """The gradients of one sequence as they enter the Gram matrix: ends dropped, norms clipped.

    Source: KFAC-SVD (LEMS, openreview IjIgNPFuCt).
    """
    drop = int(settings.drop * len(gradients))
    kept = gradients[drop : len(gradients) - drop]
    if settings.clip is None:
        return kept
    norms = kept.norm(dim=1, keepdim=True)
    low, high = (bound * norms.mean() for bound in settings.clip)
    # A token without any gradient has no direction that could be scaled up.
    scale = torch.where(norms > 0, norms.clamp(low, high) / norms, torch.zeros_like(norms))
    return kept * scale


class OutputAccumulator:
    """Sums ``g g^T`` over chunks of tokens, in the dtype of :func:`summable` gradients.

    A chunk is a sequence; hundreds of chunks of non-negative diagonals lose nothing that a
    shrinkage of some per cent would not hide, at half the memory of float64.
    """

    def __init__(
        self,
        width: int,
        device: torch.device | str = "cpu",
        settings: OutputGradientSettings | None = None,
    ) -> None:
        self.width = width
        self.device = device
        self.settings = settings or OutputGradientSettings()
        self.gram: Tensor | None = None
        self.tokens = 0

    def add(self, gradients: Float[Tensor, "*batch m"]) -> None:
        """Add the tokens of one sequence."""
        g = summable(gradients.detach().reshape(-1, gradients.shape[-1]))
        g = token_gradients(g, self.settings)
        if self.gram is None:
            self.gram = torch.zeros(self.width, self.width, dtype=g.dtype, device=self.device)
        dtype = torch.promote_types(self.gram.dtype, g.dtype)
        self.gram, g = self.gram.to(dtype), g.to(dtype)
        self.gram.addmm_(g.T, g)
        self.tokens += g.shape[0]

    def result(self) -> OutputStatistics:
        """Mean over all tokens seen; zeros where no gradient was."""
        if self.gram is None:
            nothing = torch.zeros(self.width, self.width, device=self.device)
            return OutputStatistics(nothing, self.tokens)
        return OutputStatistics(self.gram / max(self.tokens, 1), self.tokens)


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
    """Squares of one gradient over its token count (not in float16, whose squares underflow).

    Source: FLRC (arXiv 2510.09332), eq. 1 and 5.
    """
    g = summable(gradient.detach().float())
    return GradientStatistics(
        importance=_sum_of_squares(g * summable(weight.detach().float())) / tokens,
        gradient=_sum_of_squares(g) / tokens,
    )


def _sum_of_squares(x: Float[Tensor, "m n"]) -> float:
    """Chunks of a million entries as dot products, float32 where they can be; a float64 sum."""
    parts = [torch.dot(part, part) for part in torch.split(summable(x).flatten(), 1 << 20)]  # type: ignore[no-untyped-call]
    return float(torch.stack(parts).double().sum())
