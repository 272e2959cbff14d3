"""The correction that makes a weight reproduce the dense outputs from other inputs (pure maths)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def corrected_weight(
    weight: Float[Tensor, "m n"],
    cross: Float[Tensor, "n n"],
    gram: Float[Tensor, "n n"],
    strength: float,
    damping: float,
) -> Float[Tensor, "m n"]:
    """``W + strength W (M - C') (C' + damping mean(diag C') I)^-1``, float64.

    ``M`` (``cross``) is the mean over tokens of ``x x'^T`` for dense inputs ``x`` and compressed
    inputs ``x'``, ``C'`` (``gram``) that of ``x' x'^T``. Strength 1 minimises ``||W x - W* x'||``
    up to the damping.
    """
    weight, gram = weight.double(), gram.double()
    if not bool(gram.diagonal().any()):
        return weight  # all inputs are zero: nothing to correct
    damped = gram + damping * gram.diagonal().mean() * torch.eye(len(gram)).to(gram)
    correction: Tensor = torch.linalg.solve(damped, weight @ (cross.double() - gram), left=False)
    return weight + strength * correction
