"""Sequences that the dense model generates, against NumPy and a loop without a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from healing import case, sequences
from tiny import make_model

from flrc.healing import lessons as lessons_module
from flrc.healing.distilled import Distilled
from flrc.healing.generated import generated, sampled
from flrc.healing.parts import part_lengths
from flrc.healing.prompts import Prompt, prompts


def test_tokens_at_quantiles() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = torch.tensor([0.0, 0.2, 0.5, 0.9, 1 - 2**-24])
    p = np.exp(logits.numpy())
    reached = np.cumsum(p / p.sum(1, keepdims=True), axis=1)
    expected = [int(np.argmax(row > u)) for row, u in zip(reached, drawn.tolist(), strict=True)]
    assert sampled(logits, drawn).tolist() == expected
    assert sampled(logits, torch.zeros(5)).tolist() == [0] * 5


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((3, 9), -torch.inf)
    logits[:, [2, 6]] = 0.0
    assert sampled(logits, torch.tensor([0.0, 0.49, 1 - 2**-24])).tolist() == [2, 2, 6]


def test_samples_have_the_models_distribution() -> None:
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(1)).expand(20000, -1)
    drawn = torch.rand(20000, generator=torch.Generator().manual_seed(2))
    found = np.bincount(sampled(logits, drawn).numpy(), minlength=6) / 20000
    p = np.exp(logits[0].double().numpy())
    assert np.abs(found - p / p.sum()).max() < 4 * np.sqrt(0.25 / 20000)


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_a_loop_without_a_cache_generates_the_same(shape: str) -> None:
    """Prompts and sequences of unequal lengths, and more than a batch of them."""
    model = make_model(shape, "float64", 0.2).eval()
    texts = sequences(70, length=14)
    begun = [Prompt(text[: 1 + i % 3], 9 + i % 5) for i, text in enumerate(texts)]
    found = generated(model, begun, seed=3)
    order = sorted(range(70), key=lambda i: begun[i].length)
    draw = torch.Generator().manual_seed(3)
    for batch in (order[:64], order[64:]):
        first = min(len(begun[i].ids) for i in batch)
        ids = {i: begun[i].ids[:first].tolist() for i in batch}
        for at in range(first, max(begun[i].length for i in batch)):
            uniform = torch.rand(len(batch), generator=draw).tolist()
            for i, u in zip(batch, uniform, strict=True):
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([ids[i]])).logits[0, -1].numpy()
                p = np.exp(logits - logits.max())
                token = int(np.argmax(np.cumsum(p) > u * p.sum()))
                given = begun[i].ids.tolist()
                ids[i].append(given[at] if at < len(given) else token)
        for i in batch:
            assert found[i].ids.tolist() == ids[i][: begun[i].length]


def test_other_seeds_generate_other_sequences() -> None:
    model = make_model("tiny_llama_gqa", "float32", 0.2).eval()
    begun = [Prompt(torch.tensor([1]), 12)]
    one, again, other = (generated(model, begun, seed)[0].ids.tolist() for seed in (0, 0, 1))
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("length", "parts", "expected"),
    [(1024, 2, [512, 512]), (11, 3, [3, 4, 4]), (5, 4, [2, 3]), (2, 2, [2]), (3, 1, [3])],
)
def test_parts_of_a_sequence(length: int, parts: int, expected: list[int]) -> None:
    assert part_lengths(length, parts) == expected


def test_prompts_are_the_beginnings_of_the_parts() -> None:
    texts = [torch.arange(32), torch.arange(100, 102)]
    found = prompts(texts, 2, 2, 0.125)
    known = [(prompt.ids.tolist(), prompt.length) for prompt in found]
    assert known == [([0, 1], 16), ([16, 17], 16), ([100], 2)] * 2
    assert not prompts(texts, 0, 2, 0.125)
    assert [len(prompt.ids) for prompt in prompts(texts, 1, 1, 0.99)] == [31, 1]


def test_sequences_are_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Distilled(generated=2, parts=3, prompt=0.25)
    made = case(tmp_path, "pivoted", "float32", seen=2)
    seen, unseen = made.given.lessons(settings)
    begun = prompts(made.given.dense.sequences, 2, 3, 0.25)
    assert len(seen.sequences) == 2 + 12
    assert len(unseen.sequences) == 2
    assert seen.generated == 12 * 3
    assert [len(states) for states in seen.states] == [12, 12] + [4] * 12
    for ids, prompt in zip(seen.sequences[2:], begun, strict=True):
        assert ids[: len(prompt.ids)].equal(prompt.ids)
    monkeypatch.setattr(lessons_module, "generated", lambda *_: pytest.fail("generated again"))
    again, _ = made.given.lessons(settings)
    assert all(a.equal(b) for a, b in zip(again.sequences, seen.sequences, strict=True))
    none, _ = made.given.lessons(Distilled(generated=0))
    assert len(none.sequences) == 2
    assert none.generated == 0


def test_the_course_counts_generated_tokens(tmp_path: Path) -> None:
    course = Distilled(checks=1, parts=1).heal(case(tmp_path, seen=2).given)["distilled"]
    assert course["generated"] == 2 * (12 - 3)
    assert len(course["losses"]) == 4
    plain = Distilled(checks=1, generated=0).heal(case(tmp_path / "b", seen=2).given)
    assert "generated" not in plain["distilled"]
