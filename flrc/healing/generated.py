"""Sequences that the dense model generates: more to tune on than the calibration sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from flrc.calibration.statistics import not_finite
from flrc.core.progress import progress
from flrc.errors import UserError
from flrc.healing.parts import BATCH
from flrc.healing.prompts import Prompt
from flrc.healing.teacher import FEW, TOLERANCE, head_of, last_states

ROUNDINGS = 8
"""Rounding errors by which states of decoding steps may differ from those of a whole pass."""


@dataclass(frozen=True)
class Generated:
    """A sequence that the dense model continued, and its own states on it.

    Attributes:
        ids: Token ids ``(tokens,)``, those of the prompt included.
        states: The last hidden states ``(tokens, width)``.
    """

    ids: Tensor
    states: Tensor


def generated(model: PreTrainedModel, prompts: Sequence[Prompt], seed: int) -> list[Generated]:
    """Continue prompts with samples of the model's own distribution (temperature 1).

    End-of-sequence tokens do not end a sequence: it goes on as the model goes on behind them. The
    states are those of the decoding steps, which differ from :func:`~.teacher.dense_states` by
    rounding errors.

    Args:
        model: Dense, in evaluation mode.
        prompts: What is continued, and to which length.
        seed: Of the samples. They are drawn on the host, so that they depend on the device by its
            rounding errors only.

    Returns:
        A sequence for each prompt, in host memory.

    Raises:
        UserError: If the states are not finite, or the model does not decode step by step.
    """
    check_decoding(model, prompts)
    order = sorted(range(len(prompts)), key=lambda index: prompts[index].length)
    batches = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    generator, found = torch.Generator().manual_seed(seed), dict[int, Generated]()
    for number, batch in enumerate(batches, start=1):
        doing = f"the dense model's sequences, batch {number} of {len(batches)}"
        ids, states = _continued(model, [prompts[index] for index in batch], generator, doing)
        for row, index in enumerate(batch):
            end = prompts[index].length
            found[index] = Generated(ids[row, :end], states[row, :end])
    return [found[index] for index in range(len(prompts))]


@torch.no_grad()
def _continued(
    model: PreTrainedModel, batch: Sequence[Prompt], generator: torch.Generator, doing: str
) -> tuple[Tensor, Tensor]:
    """Token ids ``(batch, longest)``, and the states ``(batch, longest, width)``.

    Prompts of unequal lengths need no padding. All sequences are as long as each other at every
    step: where the prompt of one is longer, its next token is taken instead of the sample.
    """
    head, cache = head_of(model), DynamicCache(config=model.config)
    first, longest = min(len(p.ids) for p in batch), max(p.length for p in batch)
    fed = torch.stack([prompt.ids[:first] for prompt in batch])
    ids, states = [fed], []
    for at in progress(range(first, longest + 1), doing, unit="token"):
        last = decoded(model, fed, cache)
        if not bool(torch.isfinite(last).all()):
            raise not_finite("the dense model's last hidden states")
        states.append(last.cpu())
        if at < longest:
            fed = sampled(head(last[:, -1]), torch.rand(len(batch), generator=generator))[:, None]
            for row, prompt in enumerate(batch):
                if at < len(prompt.ids):
                    fed[row] = prompt.ids[at]
            ids.append(fed)
    return torch.cat(ids, dim=1), torch.cat(states, dim=1)


def decoded(model: PreTrainedModel, ids: Tensor, cache: DynamicCache) -> Tensor:
    """The last hidden states ``(batch, tokens, width)`` of what follows the tokens of the cache."""
    states: Tensor = model.base_model(
        input_ids=ids.to(model.device), past_key_values=cache, use_cache=True
    )[0]
    return states


@torch.no_grad()
def check_decoding(model: PreTrainedModel, prompts: Sequence[Prompt]) -> None:
    """Raise UserError unless tokens have the same states one by one as they have together."""
    ids = torch.cat([prompt.ids for prompt in prompts]).repeat(2)[:FEW]
    whole = last_states(model, ids)
    cache = DynamicCache(config=model.config)
    try:
        steps = torch.cat([decoded(model, token[None, None], cache)[0] for token in ids])
    except (TypeError, AttributeError, ValueError):  # such as a recurrent model's
        steps = torch.full_like(whole, torch.nan)
    tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(whole.dtype).eps)
    if not bool((whole - steps).abs().max() <= tolerance * whole.abs().max()):
        raise UserError(
            "the model does not decode step by step with a cache of keys and values, so it cannot "
            "generate sequences to be tuned on",
            given=type(model).__name__,
            allowed="models with such a cache",
            fix="heal.generated=0",
        )


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
