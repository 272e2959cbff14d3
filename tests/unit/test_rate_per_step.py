"""The count of parameters that generation used, against a counter in the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from decoding import compressed, generate, prompt
from torch import nn

from flrc.models.layers.low_rank_linear import LowRankLinear
from flrc.runtime.decoding import Decoder
from flrc.schedule.base import Schedule
from flrc.schedule.constant import Constant
from flrc.schedule.increasing import Increasing
from flrc.schedule.progressive import Progressive

THREE = Progressive(shares=[0.25, 0.25, 0.5], offsets=[-0.2, 0.0, 0.1])


@contextmanager
def counting(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Weights that each forward step reads in low-rank layers, counted on the tensors used."""
    steps: list[int] = []
    forward, linear, matmul = LowRankLinear.forward, nn.functional.linear, torch.Tensor.__matmul__
    inside = False

    def counted_linear(x: Any, weight: Any, *rest: Any) -> Any:
        if inside:
            steps[-1] += weight.numel()
        return linear(x, weight, *rest)

    def counted_matmul(x: Any, weight: Any) -> Any:
        if inside:
            steps[-1] += weight.numel()
        return matmul(x, weight)

    def wrapped(self: LowRankLinear, x: torch.Tensor) -> torch.Tensor:
        nonlocal inside
        inside = True
        try:
            return forward(self, x)
        finally:
            inside = False

    with monkeypatch.context() as patch:
        patch.setattr(LowRankLinear, "forward", wrapped)
        patch.setattr(nn.functional, "linear", counted_linear)
        patch.setattr(torch.Tensor, "__matmul__", counted_matmul)
        handle = model.model.register_forward_pre_hook(lambda *_: steps.append(0))
        try:
            yield steps
        finally:
            handle.remove()


def endless(
    model: Any, tokenizer: Any, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> tuple[Decoder, int]:
    """A decoder whose replies run to their full length, and the weights of the dense targets."""
    targets, plans = compressed(model, schedule)
    decoder = Decoder(model, tokenizer, plans)
    monkeypatch.setattr(decoder, "end_tokens", list)
    return decoder, sum(target.dense for target in targets)


@pytest.mark.parametrize(
    "schedule", [Constant(), Progressive(), Increasing(), THREE], ids=["c", "p", "i", "three"]
)
@pytest.mark.parametrize("new", [1, 2, 7, 12])
def test_rate_per_step_is_what_the_layers_used(
    schedule: Schedule,
    new: int,
    make_model: Callable[..., Any],
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder, dense = endless(make_model(), tokenizer, schedule, monkeypatch)
    with counting(decoder.model, monkeypatch) as steps:
        reply = generate(decoder, prompt(), new)
    assert len(steps) == len(reply) == new
    measured = sum(1 - used / dense for used in steps) / len(steps)
    assert decoder.rate_per_step([new], new) == pytest.approx(measured, abs=1e-12)
    if schedule.name == "progressive":
        assert steps == sorted(steps, reverse=True)
    if new == 12:
        assert decoder.plans is not None
        assert len(set(steps)) == len(decoder.plans.phases)
        assert measured == pytest.approx(0.3, abs=0.003)  # a rank is 0.0012 of this model


@pytest.mark.parametrize("schedule", [Progressive(), Increasing(), THREE], ids=["p", "i", "three"])
@pytest.mark.parametrize("end", [1, 5, 8])
def test_rate_of_a_reply_that_ends_early(
    end: int,
    schedule: Schedule,
    make_model: Callable[..., Any],
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder, dense = endless(make_model(), tokenizer, schedule, monkeypatch)
    # The token that the model says at step `end`, and not before, is made the end of a reply.
    for seed in range(50):
        free = generate(decoder, prompt(seed=seed), 12)
        if free.index(free[end - 1]) == end - 1:
            break
    monkeypatch.setattr(decoder, "end_tokens", lambda: [free[end - 1]])
    with counting(decoder.model, monkeypatch) as steps:
        reply = generate(decoder, prompt(seed=seed), 12)
    assert reply == free[:end]
    assert len(steps) == end
    measured = sum(1 - used / dense for used in steps) / end
    assert decoder.rate_per_step([len(reply)], 12) == pytest.approx(measured, abs=1e-12)


def test_rates_by_hand(make_model: Callable[..., Any], tokenizer: Any) -> None:
    model = make_model()
    _, plans = compressed(model, Progressive())
    early, late = (plan.realised for _, plan in plans.phases)
    decoder = Decoder(model, tokenizer, plans)
    # Eight steps at most: four early, four late. Replies of 2, 6, 8: 2 + 4 + 4 early, 2 + 4 late.
    assert decoder.rate_per_step([2, 6, 8], 8) == pytest.approx((10 * early + 6 * late) / 16)
    # Per token: prompts of 10, 20 and 30 at the early rate, then 1, 3 + 2 and 3 + 4 generated ones.
    expected = (60 * early + (1 + 3 + 3) * early + (2 + 4) * late) / (60 + 13)
    assert decoder.rate_per_token([2, 6, 8], [10, 20, 30], 8) == pytest.approx(expected)
    assert decoder.describe(8) == [{"step": 1, "rate": early}, {"step": 5, "rate": late}]
    assert decoder.describe(1) == [{"step": 1, "rate": early}, {"step": 2, "rate": late}]
    assert Decoder(model, tokenizer, None).rate_per_step([3], 8) == 0.0
