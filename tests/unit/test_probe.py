"""Probing equals really replacing the layers and running the whole model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flrc.allocator.probe import Cost, Divergence, Probe
from flrc.core.cache import StageCache
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.plans.target import Target


def factors_of(model: Any, targets: list[Target]) -> Callable[[str, int], tuple[Tensor, Tensor]]:
    """Truncated SVDs of the dense weights, by numpy."""
    known = {}
    for t in targets:
        weight = np.concatenate(
            [model.get_submodule(layer.name).weight.double().numpy() for layer in t.layers]
        )
        left, values, right = np.linalg.svd(weight, full_matrices=False)
        known[t.name] = (torch.tensor((left * values).T), torch.tensor(right))
    return lambda name, rank: (known[name][0][:rank], known[name][1][:rank])


def replaced(model: Any, targets: list[Target], ranks: dict[str, int | None], factors: Any) -> Any:
    """A copy of the model with the product of the factors written into the weights."""
    other = copy.deepcopy(model)
    for t in targets:
        rank = ranks.get(t.name)
        if rank is None:
            continue
        left_t, right = factors(t.name, rank)
        product, begin = left_t.T @ right, 0
        for layer in t.layers:
            other.get_submodule(layer.name).weight.data.copy_(product[begin : begin + layer.d_out])
            begin += layer.d_out
    return other


def by_numpy(dense: Any, cut: Any, sequences: list[Tensor]) -> tuple[float, float]:
    """Mean nll and KL over all predicted tokens, sequence by sequence, in float64."""

    def logs(model: Any, ids: Tensor) -> np.ndarray[Any, Any]:
        z = model(input_ids=ids[None]).logits[0, :-1].double().numpy()
        return (
            z
            - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True))
            - z.max(1, keepdims=True)
        )

    nll, kl = [], []
    for ids in sequences:
        p, q = logs(dense, ids), logs(cut, ids)
        nll += [-q[i, int(token)] for i, token in enumerate(ids[1:])]
        kl += list((np.exp(p) * (p - q)).sum(1))
    return float(np.mean(nll)), float(np.mean(kl))


def mixed_lengths() -> list[Tensor]:
    """Two of one length, so that they are stacked, and two others."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 256, (n,), generator=generator) for n in (17, 24, 17, 9)]


def close(found: Divergence, nll: float, kl: float) -> None:
    assert found.nll == pytest.approx(nll, abs=1e-9)
    assert found.kl == pytest.approx(kl, abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        ("tiny_llama_gqa", 1),  # candidates one by one
        ("tiny_llama_gqa", 60),  # a few together
        ("tiny_gemma3", 8192),  # all together; masks differ between blocks
        ("tiny_qwen2", 60),  # biases
        ("tiny_gemma", 60),  # embeddings are scaled
    ],
)
def test_single_and_plan_equal_a_replaced_copy(
    shape: str, tokens: int, make_model: Callable[..., Any]
) -> None:
    model = make_model(shape, dtype="float64", spread=0.15)
    targets, sequences = find_targets(model), mixed_lengths()
    factors = factors_of(model, targets)
    probe = Probe(model, targets, factors, sequences, tokens=tokens)
    close(probe.dense, *by_numpy(model, model, sequences))
    assert probe.dense.kl == 0
    last = max(t.block for t in targets)
    chosen = [t for t in targets if t.block in (0, last)]
    candidates = {t.name: [9, 3] if t.block == 0 else [5] for t in chosen}
    found = probe.single(candidates)
    for t in chosen[::5]:
        for rank, divergence in zip(candidates[t.name], found[t.name], strict=True):
            cut = replaced(model, targets, {t.name: rank}, factors)
            nll, kl = by_numpy(model, cut, sequences)
            close(divergence, nll, kl)
            assert kl > 1e-4  # the truncation shows
    ranks = {t.name: None if i % 3 == 0 else 2 + i % 7 for i, t in enumerate(targets)}
    close(
        probe.plan(ranks),
        *by_numpy(model, replaced(model, targets, ranks, factors), sequences),
    )
    close(probe.plan({}), *by_numpy(model, model, sequences))


def test_groups_share_out_their_factors(make_model: Callable[..., Any]) -> None:
    model = make_model("tiny_qwen2", dtype="float64")  # with biases
    targets = Shared().targets(find_targets(model))
    assert any("+" in t.name for t in targets)
    factors, sequences = factors_of(model, targets), mixed_lengths()
    probe = Probe(model, targets, factors, sequences)
    found = probe.single({t.name: [6] for t in targets})
    for t in targets[:4]:
        cut = replaced(model, targets, {t.name: 6}, factors)
        close(found[t.name][0], *by_numpy(model, cut, sequences))


def test_the_model_is_left_as_it_was(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets, sequences = find_targets(model), mixed_lengths()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    modules = {n: dict(m.__dict__) for n, m in model.named_modules()}
    factors = factors_of(model, targets)

    def broken(name: str, rank: int) -> tuple[Tensor, Tensor]:
        left_t, right = factors(name, rank)
        return (left_t, right[:, 1:]) if name == targets[-1].name else (left_t, right)

    probe = Probe(model, targets, broken, sequences)
    names = [t.name for t in targets]
    with pytest.raises(RuntimeError):
        probe.single({name: [2] for name in names})
    with pytest.raises(RuntimeError):
        probe.plan(dict.fromkeys(names, 2))
    probe.single({names[0]: [2]})
    assert {n: m.__dict__.keys() for n, m in model.named_modules()} == {
        n: d.keys() for n, d in modules.items()
    }
    assert all("forward" not in m.__dict__ for m in model.modules())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_forward_of_its_own_is_put_back(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = find_targets(model)
    linear = model.get_submodule(targets[0].name)
    linear.forward = own = type(linear).forward.__get__(linear)
    Probe(model, targets, factors_of(model, targets), mixed_lengths()).single(
        {targets[0].name: [2]}
    )
    assert linear.forward is own


def test_costs_are_counted(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = find_targets(model)
    sequences = [torch.arange(10), torch.arange(30), torch.arange(10)]  # 50 tokens, 3 blocks
    probe = Probe(model, targets, factors_of(model, targets), sequences)
    by_block = {b: next(t.name for t in targets if t.block == b) for b in range(3)}
    probe.single({by_block[2]: [2, 3]})
    # The dense pass 3 blocks; dense states carried through 2; two candidates in one block each.
    # Head: the dense pass, the dense model again for the comparison, and the two candidates.
    assert (probe.cost.probes, probe.cost.block_tokens) == (2, 50 * (3 + 2 + 2))
    assert probe.cost.head_tokens == 50 * (1 + 1 + 2)
    assert probe.cost.seconds > 0
    probe.single({by_block[0]: [2], by_block[2]: [3]})  # nothing carried; 3 blocks; one is known
    assert (probe.cost.probes, probe.cost.block_tokens) == (3, 50 * (7 + 3))
    probe.plan({by_block[0]: 2})
    assert (probe.cost.probes, probe.cost.block_tokens) == (4, 50 * (10 + 3))
    assert vars(probe.total) == pytest.approx(vars(probe.cost))
    # One forward pass over these 50 tokens is one, over 200 tokens a quarter.
    whole = Cost(block_tokens=3 * 50, head_tokens=50)
    assert probe.forwards(whole) == pytest.approx(1)
    assert probe.forwards(whole, 200) == pytest.approx(0.25)
    # 48 wide: a block has 2 * 48 * 48 (q, o) + 2 * 24 * 48 (k, v) + 3 * 96 * 48 + 2 * 48 (norms)
    # = 20832 parameters, the head 260 * 48 = 12480.
    assert probe.forwards(Cost(block_tokens=50)) == pytest.approx(20832 / (3 * 20832 + 12480))


def test_answers_outlive_the_process_and_a_killed_search_resumes(
    tmp_path: Path, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    targets, sequences = find_targets(model), mixed_lengths()
    entry = StageCache(tmp_path, 10**9).entry("probes", {"a": 1})
    factors = factors_of(model, targets)
    asked: list[str] = []

    def killed(name: str, rank: int) -> tuple[Tensor, Tensor]:
        asked.append(name)
        if ".2." in name:
            raise KeyboardInterrupt
        return factors(name, rank)

    candidates = {t.name: [2, 7] for t in targets}
    first = Probe(model, targets, killed, sequences, entry)
    with pytest.raises(KeyboardInterrupt):
        first.single(candidates)
    plan = {t.name: 3 for t in targets if t.block < 2}
    whole = first.plan(plan)
    asked.clear()

    def counted(name: str, rank: int) -> tuple[Tensor, Tensor]:
        asked.append(name)
        return factors(name, rank)

    second = Probe(model, targets, counted, sequences, entry)
    found = second.single(candidates)
    assert second.plan(plan) == whole
    assert set(asked) == {t.name for t in targets if t.block == 2}
    assert found == Probe(model, targets, factors, sequences).single(candidates)
    assert second.cost.probes == 14
    assert second.total.probes == 2 * len(targets) + 1

    def nothing(name: str, rank: int) -> tuple[Tensor, Tensor]:
        raise AssertionError(f"{name} was asked again")

    third = Probe(model, targets, nothing, sequences, entry)
    assert third.single({targets[0].name: [7]}) == {targets[0].name: [found[targets[0].name][1]]}
    # Other probes' answers in the same entry are not its cost; its own are, even if cached.
    assert (third.cost.probes, third.total.probes) == (0, 1)
    with pytest.raises(AssertionError, match="asked again"):  # other sequences, other answers
        Probe(model, targets, nothing, sequences[:2], entry).single({targets[0].name: [7]})


def test_a_broken_truncation_is_the_worst_and_is_remembered(
    tmp_path: Path, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    targets = find_targets(model)
    entry = StageCache(tmp_path, 10**9).entry("probes", {})

    def broken(name: str, rank: int) -> tuple[Tensor, Tensor]:
        return torch.full((rank, 48), torch.nan), torch.zeros(rank, 48)

    name = targets[0].name
    probe = Probe(model, targets, broken, mixed_lengths(), entry)
    (found,) = probe.single({name: [2]})[name]
    assert found.loss == found.perplexity == float("inf")
    (again,) = Probe(model, targets, broken, mixed_lengths(), entry).single({name: [2]})[name]
    assert again.loss == float("inf")
    assert Divergence(800.0, 0.0).perplexity == float("inf")
    assert Divergence(np.log(5.0), 0.0).perplexity == pytest.approx(5)


def test_the_cost_is_reported_before(
    make_model: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    targets = find_targets(model)
    probe = Probe(model, targets, factors_of(model, targets), mixed_lengths())
    first = {targets[0].name: [2, 3]}
    with caplog.at_level(logging.INFO):
        # Cuts in the first block and whole plans go through the whole model: 2 + 5 passes.
        probe.announce("search", first, plans=5)
    assert "2 single-layer truncations" in caplog.text
    assert "5 whole plans" in caplog.text
    assert "4 sequences (67 tokens): about 7 forward passes" in caplog.text
    probe.single(first)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        probe.announce("search", first)
    assert "0 single-layer truncations (2 more are cached)" in caplog.text


def test_sequences_must_predict_something(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = find_targets(model)
    for bad in ([], [torch.arange(1)]):
        with pytest.raises(ValueError, match="two tokens"):
            Probe(model, targets, factors_of(model, targets), bad)
