"""KL divergence of the next-token distributions, and its gradient, in chunks (pure maths)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Head = Callable[[Tensor], Tensor]
"""Last hidden states ``(tokens, width)`` to logits ``(tokens, vocabulary)``."""


def divergence(
    tuned: Float[Tensor, "tokens width"],
    dense: Float[Tensor, "tokens width"],
    head: Head,
    chunk: int,
    gradient: bool = True,
) -> tuple[float, Float[Tensor, "tokens width"] | None]:
    """Mean of ``KL(p_dense || p_tuned)`` over tokens, in nats, and its gradient in ``tuned``.

    With logits ``z`` of the tuned model, the gradient of a token's divergence is
    ``p_tuned - p_dense``; what lies between states and logits is left to autograd. Logits exist for
    ``chunk`` tokens at a time: for all tokens they would take ``vocabulary / width`` times the
    memory of the states. Softmax and sums are float32 or wider.

    Args:
        tuned: Last hidden states of the tuned model; detached.
        dense: Those of the dense model.
        head: Frozen, and the same for both.
        chunk: Tokens at a time.
        gradient: Whether the gradient is wanted.

    Returns:
        The mean, and the gradient in the dtype of ``tuned``; None if it is not wanted.
    """
    tokens = len(tuned)
    total, gradients = 0.0, []
    for begin in range(0, tokens, chunk):
        with torch.no_grad():
            wanted = _log_softmax_(head(dense[begin : begin + chunk]))
        states = tuned[begin : begin + chunk].detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            logits = head(states)
        with torch.no_grad():
            found = _log_softmax_(logits.detach().clone() if gradient else logits)
            weights = wanted.exp()
            total += float(torch.sum(weights * wanted.sub_(found), dtype=torch.float64))
            if gradient:
                difference = found.exp_().sub_(weights).div_(tokens)
        if gradient:
            (of_states,) = torch.autograd.grad(logits, states, difference.to(logits.dtype))
            gradients.append(of_states)
    return total / tokens, torch.cat(gradients) if gradient else None


def _log_softmax_(logits: Tensor) -> Tensor:
    """Log-probabilities, written over the logits if these are float32 or wider."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.sub_(wide.logsumexp(-1, keepdim=True))
