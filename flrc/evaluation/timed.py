"""Generation step by step, with a clock: the same loop for dense and compressed models."""

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
from flrc.runtime.streaming import streamers

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

    from flrc.plans.rank_plan import RankPlan


@dataclass(frozen=True)
class Timing:
    """Seconds of one generation.

    Attributes:
        prefill: Until the first token is known.
        steps: Of each further forward step.
        tokens: ``(batch, new)`` ids, greedy.
        streamed: Bytes of offloaded weights that came in after the prefill.
    """

    prefill: float
    steps: list[float]
    tokens: Tensor
    streamed: int = 0


@torch.no_grad()
def timed(
    model: PreTrainedModel, ids: Tensor, steps: int, at: Mapping[int, RankPlan] | None = None
) -> Timing:
    """Generate greedily; nothing ends a reply early.

    Args:
        model: Dense or compressed.
        ids: ``(batch, prompt)``, no padding.
        steps: Forward steps: the prefill, which yields the first token, and one a further token.
        at: Plans by the 0-based forward step at which they are activated; its time counts.
    """
    switches = {step: prepared(model, plan) for step, plan in (at or {}).items()}
    device = ids.device
    batch, prompt = ids.shape
    positions = torch.arange(prompt + steps, device=device).expand(batch, -1)
    position = positions[:, :prompt]
    cache, fed, found, seconds = _cache(model, prompt + steps), ids, [], []
    streamed = 0
    for step in range(steps):
        if step == 1:
            streamed = sum(one.moved for one in streamers(model))
        wait(device)
        begun = time.perf_counter()
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
        seconds.append(time.perf_counter() - begun)
        position = positions[:, prompt + step : prompt + step + 1]
        found.append(fed)
    streamed = sum(one.moved for one in streamers(model)) - streamed
    return Timing(seconds[0], seconds[1:], torch.cat(found, dim=1), streamed)


def _cache(model: PreTrainedModel, length: int) -> Cache:
    """Of fixed size where the runtime has asked for that."""
    from transformers import DynamicCache, StaticCache

    if model.generation_config.cache_implementation == "static":  # type: ignore[union-attr]
        return StaticCache(config=model.config, max_cache_len=length)
    return DynamicCache(config=model.config)


def alternate(
    runs: Mapping[str, Callable[[], Timing]], repeats: int, doing: str
) -> list[dict[str, Timing]]:
    """Each of the runs once a repeat, in turns of order, after one that does not count.

    A machine that slows down or speeds up meanwhile does so for all of them.
    """
    for run in runs.values():
        run()
    rows = []
    for repeat in progress(range(repeats), doing, repeats):
        names = list(runs) if repeat % 2 == 0 else list(runs)[::-1]
        rows.append({name: runs[name]() for name in names})
    return rows
