"""Token losses of a model on windows of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor, nn

from flrc.core.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def window_losses(model: PreTrainedModel, windows: Int[Tensor, "windows length"]) -> list[float]:
    """Mean negative log likelihood, in nats, of the last ``length - 1`` tokens of each window.

    Windows are evaluated one by one: the logits of one window of 2048 tokens already take 1 GB with
    a vocabulary of 128 k. Token losses are float32 or wider, their mean is float64.
    """
    losses = []
    for window in progress(windows, "perplexity", unit="window"):
        ids = window.to(model.device)
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        token_losses = nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        losses.append(float(token_losses.double().mean()))
    return losses
