"""The compiled decoding step: the same tokens, one graph for each phase, nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from jaxtyping import config
from test_separate import built, generated
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.utils import counters

from flrc.errors import UserError
from flrc.evaluation.timed_generation import timed
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.runtime.compiled import Compiled
from flrc.runtime.decoding import Decoder


@pytest.fixture(autouse=True)
def untyped() -> Iterator[None]:
    """The tests' checks of array shapes cannot be traced; they exist only in tests."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize(
    ("form", "shared"),
    [pytest.param(TwoFactor(), False, marks=pytest.mark.slow), (Pivoted(), True)],
)
def test_the_same_tokens_from_a_graph_a_phase(
    form: Form, shared: bool, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model("tiny_qwen2", spread=0.1)
    _, plans = built(model, form, shared)
    eager = generated(model, tokenizer, plans)
    at = Decoder(model, tokenizer, plans).plans_by_step(9)
    prompts = [torch.randint(0, 200, (2, length)) for length in (12, 17)]
    timings = [timed(model, ids, 9, at).tokens for ids in prompts]
    counters.clear()
    forward = model.forward
    with Compiled(backend="eager").running(model, [], 0):
        assert torch.equal(generated(model, tokenizer, plans), eager)
        assert graphs() == len(plans.phases)
        for number, (ids, expected) in enumerate(zip(prompts, timings, strict=True)):
            assert torch.equal(timed(model, ids, 9, at).tokens, expected), number
        # One more per phase when a second size makes the step dynamic; none for a third.
        general = graphs()
        timed(model, torch.randint(0, 200, (2, 29)), 9, at)
        assert graphs() == general <= 3 * len(plans.phases)
    assert model.forward == forward
    assert model.generation_config.cache_implementation is None
    assert torch.equal(generated(model, tokenizer, plans), eager)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_inductor(make_model: Callable[..., Any], tokenizer: Any) -> None:
    model = make_model("tiny_qwen2", spread=0.1)
    _, plans = built(model, TwoFactor(), False)
    eager = generated(model, tokenizer, plans)
    with Compiled().running(model, [], 0):
        assert torch.equal(generated(model, tokenizer, plans), eager)


def test_too_many_versions_are_an_error(
    make_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never silently run uncompiled."""
    monkeypatch.setattr("flrc.runtime.compiled.RECOMPILATIONS", 1)
    model = make_model("tiny_qwen2", spread=0.1)
    _, plans = built(model, TwoFactor(), False)
    with Compiled(backend="eager").running(model, [], 0), pytest.raises(FailOnRecompileLimitHit):
        generated(model, tokenizer, plans)


def test_an_unknown_backend() -> None:
    with pytest.raises(UserError, match="inductor"):
        Compiled(backend="inducter")
