"""Settings of the statistics of output gradients."""

from __future__ import annotations

from dataclasses import dataclass

LABELS = ("data", "model", "both")


@dataclass(frozen=True)
class OutputGradientSettings:
    """How each token's gradient enters the Gram matrix of a layer's outputs.

    Attributes:
        labels: ``data``: gradients of the cross entropy of the text's own next tokens (empirical
            Fisher information). ``model``: of tokens that the model itself would draw (the Fisher
            information proper). ``both``: half and half.
        drop: Share of a sequence's tokens left out at its beginning, and again at its end.
        clip: Bounds of a token's gradient norm as multiples of the sequence's mean norm (smaller
            ones are scaled up, larger ones down); None leaves all as they are.
        enough: Tokens for each channel of the widest target's outputs after which no further
            sequence's gradients are taken; None takes all.
    """

    labels: str = "data"
    drop: float = 0.0
    clip: tuple[float, float] | None = None
    enough: float | None = None
