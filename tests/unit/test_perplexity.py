"""Perplexity against the protocol written out, and windows that are never dropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from flrc.errors import UserError
from flrc.evaluation.base import Subject
from flrc.evaluation.likelihood import window_losses
from flrc.evaluation.perplexity import Perplexity
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.runtime.decoding import Decoder


def subject(model: Any, tokenizer: Any, data: Any, rate: float = 0.0) -> Subject:
    plans = Plans(RankPlan(rate, rate, {}), [])
    return Subject(Decoder(model, tokenizer, plans), data)


def losses_by_hand(model: Any, text: str, length: int, windows: int | None) -> list[float]:
    """Mean negative log likelihood of each whole window: bytes in, softmax in numpy float64."""
    from flrc.models.sources.byte_tokenizer import byte_tokenizer

    vocabulary = byte_tokenizer().get_vocab()
    written = {" ": "\u0120", "\n": "\u010a"}  # how byte-level BPE writes them
    ids = [vocabulary[written.get(character, character)] for character in text]
    found = []
    for begin in range(0, len(ids) - length + 1, length)[:windows]:
        window = np.array(ids[begin : begin + length])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(window)[None]).logits[0].numpy()
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        found.append(-np.mean([np.log(p[t, window[t + 1]]) for t in range(length - 1)]))
    return found


@pytest.mark.parametrize(("windows", "length"), [(None, 700), (3, 128), (1, 64)])
def test_perplexity_is_the_protocol(
    windows: int | None, length: int, make_model: Callable[..., Any], tokenizer: Any, data: Any
) -> None:
    model = make_model(dtype="float64")
    text = "\n\n".join(row["text"] for row in data.rows("wikitext2", "test"))
    losses = losses_by_hand(model, text, length, windows)
    evaluation = Perplexity(datasets=["wikitext2"], windows=windows, length=length)
    outcome = evaluation.evaluate(subject(model, tokenizer, data, 0.25), "wikitext2")
    (m,) = outcome.measurements
    assert m.name == "wikitext2/perplexity"
    assert m.value == pytest.approx(math.exp(np.mean(losses)), rel=1e-9)
    assert (m.count, m.rate, m.higher_is_better) == (len(losses), 0.25, False)
    if windows is None:
        assert len(losses) == len(text) // length
    if len(losses) > 1:
        error = np.std(losses, ddof=1) / math.sqrt(len(losses)) * m.value
        assert m.stderr == pytest.approx(error, rel=1e-6)
    else:
        assert m.stderr is None
    assert [item["loss"] for item in outcome.items] == pytest.approx(losses, rel=1e-9)


def test_a_window_that_is_not_finite_is_not_dropped(
    make_model: Callable[..., Any], tokenizer: Any, data: Any
) -> None:
    model = make_model()
    calls = 0

    def spoil(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return output * float("nan") if calls == 2 else output

    model.lm_head.register_forward_hook(spoil)
    evaluation = Perplexity(datasets=["wikitext2"], windows=4, length=64)
    outcome = evaluation.evaluate(subject(model, tokenizer, data), "wikitext2")
    assert math.isnan(outcome.measurements[0].value)
    assert outcome.measurements[0].count == 4
    assert [math.isnan(item["loss"]) for item in outcome.items] == [False, True, False, False]


def test_an_overflowing_perplexity_is_infinite(
    make_model: Callable[..., Any], tokenizer: Any, data: Any
) -> None:
    model = make_model()
    # Certain of a token that never comes (256 is <s>): 5000 nats a token.
    model.lm_head.register_forward_hook(
        lambda _m, _a, output: torch.full_like(output, -5000).index_fill_(2, torch.tensor([256]), 0)
    )
    assert window_losses(model, torch.ones(1, 8, dtype=torch.long)) == [5000.0]
    evaluation = Perplexity(datasets=["wikitext2"], windows=2, length=64)
    outcome = evaluation.evaluate(subject(model, tokenizer, data), "wikitext2")
    assert outcome.measurements[0].value == math.inf


def test_too_many_windows_are_refused(
    make_model: Callable[..., Any], tokenizer: Any, data: Any
) -> None:
    evaluation = Perplexity(datasets=["wikitext2"], windows=500, length=64)
    with pytest.raises(UserError, match="windows of 64 tokens"):
        evaluation.evaluate(subject(make_model(), tokenizer, data), "wikitext2")


def test_settings_hold_what_defines_the_number(data: Any) -> None:
    base = Perplexity(datasets=["wikitext2"], windows=2, length=64)
    same = Perplexity(datasets=["wikitext2", "c4"], windows=2, length=64)
    assert base.settings("wikitext2", data) == same.settings("wikitext2", data)
    for other in (
        Perplexity(datasets=["wikitext2"], windows=3, length=64),
        Perplexity(datasets=["wikitext2"], windows=2, length=65),
    ):
        assert base.settings("wikitext2", data) != other.settings("wikitext2", data)
    assert base.settings("wikitext2", data)["split"] == "test"
    assert same.settings("c4", data)["split"] == "validation"
