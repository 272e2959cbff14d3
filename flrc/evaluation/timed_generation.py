"""Times generation step by step, with the same loop for dense and compressed models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flrc.core.progress import progress
from flrc.evaluation.roofline import wait
from flrc.models.layers.switching import prepared
from flrc.runtime.weight_streaming import streamers

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

    from flrc.plans.rank_plan import RankPlan


@dataclass(frozen=True)
class Timing:
    """Seconds of one generation.

    Attributes:
        prefill: Seconds of the prefill, which generates the first token.
        steps: Seconds of each further forward step.
        tokens: ``(batch, new)`` ids, greedy.
        streamed: Bytes of offloaded weights that were streamed after the prefill.
    """

    prefill: float
    steps: list[float]
    tokens: Tensor
    streamed: int = 0


@torch.no_grad()
def timed(
    model: PreTrainedModel, ids: Tensor, steps: int, at: Mapping[int, RankPlan] | None = None
) -> Timing:
    """Generate greedily, without stopping at end-of-sequence tokens.

    Args:
        model: Dense or compressed.
        ids: ``(batch, prompt)``, no padding.
        steps: Forward steps: the prefill, which generates the first token, and one per further
            token.
        at: Plans by the forward step, counted from 0, at which they are activated; the time of
            activation counts.
    """
    switches = {step: prepared(model, plan) for step, plan in (at or {}).items()}
    device = ids.device
    batch, prompt = ids.shape
    positions = torch.arange(prompt + steps, device=device).expand(batch, -1)
    position = positions[:, :prompt]
    cache, fed, tokens, seconds, streamed = _cache(model, prompt + steps), ids, [], [], 0
    for step in range(steps):
        if step == 1:
            streamed = sum(streamer.moved for streamer in streamers(model))
        wait(device)
        start = time.perf_counter()
        if step in switches:
            switches[step]()
        output = model(
            input_ids=fed,
            past_key_values=cache,
            position_ids=position,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, fed = output.past_key_values, output.logits[:, -1:].argmax(-1)
        wait(device)
        seconds.append(time.perf_counter() - start)
        position = positions[:, prompt + step : prompt + step + 1]
        tokens.append(fed)
    streamed = sum(streamer.moved for streamer in streamers(model)) - streamed
    return Timing(seconds[0], seconds[1:], torch.cat(tokens, dim=1), streamed)


def _cache(model: PreTrainedModel, length: int) -> Cache:
    from transformers import DynamicCache, StaticCache

    # The runtime may require a fixed size.
    if model.generation_config.cache_implementation == "static":  # type: ignore[union-attr]
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)


def alternate(
    runs: Mapping[str, Callable[[], Timing]], repeats: int, doing: str
) -> list[dict[str, Timing]]:
    """Run each once per repeat, in alternating order, after a warm-up that is not recorded.

    If the speed of the machine changes meanwhile, it changes for all of them.
    """
    for run in runs.values():
        run()
    rows = []
    for repeat in progress(range(repeats), doing, unit="repeat"):
        names = list(runs) if repeat % 2 == 0 else list(runs)[::-1]
        rows.append({name: runs[name]() for name in names})
    return rows
