"""Sequences that the dense model generates: more to tune on than the calibration sequences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from flrc.core.progress import progress
from flrc.healing.parts import BATCH
from flrc.healing.prompts import Prompt
from flrc.healing.teacher import head_of


def generated(model: PreTrainedModel, prompts: Sequence[Prompt], seed: int) -> list[Tensor]:
    """Continue prompts with samples of the model's own distribution (temperature 1).

    End-of-sequence tokens do not end a sequence: it goes on as the model goes on behind them.

    Args:
        model: Dense, in evaluation mode.
        prompts: What is continued, and to which length.
        seed: Of the samples. They are drawn on the host, so that they depend on the device by its
            rounding errors only.

    Returns:
        Token ids ``(length,)`` of each, prompt included, in host memory.
    """
    order = sorted(range(len(prompts)), key=lambda index: prompts[index].length)
    batches = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    generator, found = torch.Generator().manual_seed(seed), dict[int, Tensor]()
    for number, batch in enumerate(batches, start=1):
        doing = f"the dense model's sequences, batch {number} of {len(batches)}"
        ids = _continued(model, [prompts[index] for index in batch], generator, doing)
        found |= {
            index: row[: prompts[index].length] for index, row in zip(batch, ids, strict=True)
        }
    return [found[index] for index in range(len(prompts))]


@torch.no_grad()
def _continued(
    model: PreTrainedModel, batch: Sequence[Prompt], generator: torch.Generator, doing: str
) -> Tensor:
    """``(batch, tokens of the longest)``; prompts of unequal lengths need no padding.

    All sequences are as long as each other at every step: where the prompt of one is longer, its
    next token is taken instead of the sample.
    """
    head, cache = head_of(model), DynamicCache(config=model.config)
    first = min(len(prompt.ids) for prompt in batch)
    ids = torch.stack([prompt.ids[:first] for prompt in batch])
    fed = ids
    for at in progress(range(first, max(prompt.length for prompt in batch)), doing, unit="token"):
        states = model.base_model(
            input_ids=fed.to(model.device), past_key_values=cache, use_cache=True
        )[0]
        fed = sampled(head(states[:, -1]), torch.rand(len(batch), generator=generator))[:, None]
        for row, prompt in enumerate(batch):
            if at < len(prompt.ids):
                fed[row] = prompt.ids[at]
        ids = torch.cat([ids, fed], dim=1)
    return ids


def sampled(logits: Tensor, drawn: Tensor) -> Tensor:
    """The tokens at quantiles of distributions.

    Args:
        logits: ``(batch, vocabulary)``.
        drawn: ``(batch,)`` in [0, 1), in host memory: the first token is taken up to which the
            probabilities add up to more.

    Returns:
        Token ids ``(batch,)``, int64, in host memory.
    """
    reached = logits.double().softmax(-1).cumsum(-1).cpu()
    # The sum of all of them is 1 up to rounding errors, and no token follows the last one.
    quantiles = drawn.double()[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, quantiles, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
