"""Batches that shrink when memory runs out."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flrc.data.sample import Sample
from flrc.evaluation import shrinking_batches
from flrc.evaluation.base import Subject
from flrc.evaluation.reply_generation import generate_replies
from flrc.evaluation.shrinking_batches import halved, in_batches
from flrc.evaluation.zeroshot import ZeroShot
from flrc.runtime.decoding import Decoder

NO_MEMORY = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes"


@given(st.integers(0, 40), st.integers(1, 17), st.integers(1, 20))
def test_every_item_once_and_in_order(count: int, size: int, fits: int) -> None:
    sizes: list[int] = []

    def compute(batch: Sequence[int]) -> list[int]:
        if len(batch) > fits:
            raise RuntimeError(NO_MEMORY)
        sizes.append(len(batch))
        return [2 * item for item in batch]

    assert in_batches(range(count), size, compute, "testing") == [2 * k for k in range(count)]
    assert sum(sizes) == count
    assert all(n <= min(size, fits) for n in sizes)
    if fits >= size:
        assert len(sizes) == -(-count // size)


def test_other_errors_and_a_batch_of_one_are_not_tried_again() -> None:
    for error in (RuntimeError("shapes do not match"), RuntimeError(NO_MEMORY), MemoryError()):
        calls: list[int] = []

        def compute(batch: Sequence[int], error: Exception = error, calls: Any = calls) -> Any:
            calls.append(len(batch))
            raise error

        with pytest.raises(type(error)):
            in_batches([1, 2, 3], 2, compute, "testing")
        assert calls == ([2] if "shapes" in str(error) else [2, 1])


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried ..."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_a_smaller_batch_is_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert halved(9, error) == 4
    with pytest.raises(ValueError, match="another"):
        halved(9, ValueError("another"))
    assert caplog.messages == ["out of memory with batches of 9: continuing with batches of 4"]


def test_memory_is_given_back_when_the_failed_try_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error holds on to its frames, and these to tensors."""
    alive: list[weakref.ref[Any]] = []
    given_back: list[bool] = []
    monkeypatch.setattr(
        shrinking_batches,
        "free_memory",
        lambda: given_back.append(all(made() is None for made in alive)),
    )

    def compute(batch: Sequence[int]) -> list[int]:
        tensor = torch.zeros(9)
        alive.append(weakref.ref(tensor))
        if len(batch) > 1:
            raise RuntimeError(NO_MEMORY)
        return list(batch)

    assert in_batches([1, 2, 3, 4], 4, compute, "testing") == [1, 2, 3, 4]
    assert given_back == [True, True]


def scarce(model: Any, limit: int) -> None:
    """Lets the model run on no more than ``limit`` sequences at a time."""

    def check(_module: Any, arguments: Any, options: dict[str, Any]) -> None:
        ids = options.get("input_ids", arguments[0] if arguments else None)
        if ids is not None and len(ids) > limit:
            raise RuntimeError(NO_MEMORY)

    model.register_forward_pre_hook(check, with_kwargs=True)


def test_replies_are_the_same(make_model: Callable[..., Any], tokenizer: Any) -> None:
    prompts = [list(range(3, 8 + k % 5)) for k in range(11)]
    expected = generate_replies(
        Decoder(make_model(), tokenizer, None), prompts, batch_size=8, max_new_tokens=6
    )
    model = make_model()
    scarce(model, 3)
    found = generate_replies(
        Decoder(model, tokenizer, None), prompts, batch_size=8, max_new_tokens=6
    )
    assert found == expected


def test_answers_are_the_same(
    make_model: Callable[..., Any], tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation = ZeroShot(tasks=["piqa"], limit=6, batch_size=8)
    model = make_model()
    decoder = Decoder(model, tokenizer, None)
    expected = evaluation.evaluate(Subject(decoder, Sample()), "piqa")
    scarce(model, 2)
    found = evaluation.evaluate(Subject(decoder, Sample()), "piqa")
    assert [item["predicted"] for item in found.items] == [
        item["predicted"] for item in expected.items
    ]
    assert found.measurements == expected.measurements
    assert "continuing with batches of 2" in caplog.text
