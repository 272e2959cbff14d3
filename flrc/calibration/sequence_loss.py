"""The loss of one calibration sequence, and the weights that its gradient is taken for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from flrc.calibration.statistics import not_finite
from flrc.plans.target import Target

LOGITS = "the model's logits on the calibration sequences"
"""What is not finite where the loss is not, for the error."""


def next_token_logits(
    model: PreTrainedModel, ids: Int[Tensor, " tokens"]
) -> Float[Tensor, "predictions vocabulary"]:
    """Logits of a sequence's next-token predictions, one fewer than tokens, at least float32."""
    logits: Tensor = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def sequence_loss(model: PreTrainedModel, sequence: Int[Tensor, " tokens"]) -> Tensor:
    """Summed cross entropy of a sequence's next-token predictions, in nats (at least float32).

    Raises:
        UserError: If it is not finite.
    """
    ids = sequence.to(model.device)
    logits = next_token_logits(model, ids)
    loss = nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
    if not bool(torch.isfinite(loss)):
        raise not_finite(LOGITS)
    return loss


@contextmanager
def requiring_grad(model: nn.Module, layers: Sequence[Target]) -> Iterator[dict[str, nn.Parameter]]:
    """While active, only the weights of these layers, yielded by name, require gradients."""
    model.requires_grad_(False)
    weights = {layer.name: model.get_parameter(f"{layer.name}.weight") for layer in layers}
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        yield weights
    finally:
        for parameter in model.parameters():
            parameter.grad = None
        model.requires_grad_(False)
