"""Output-gradient Grams against autograd, whatever the passes and the grouping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flrc.decomposition.statistics as statistics_module
from flrc.calibration.activation_checkpointing import graph_bytes
from flrc.calibration.dense_model import DenseModel
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.calibration.output_statistics import (
    block_groups,
    joint_statistics,
    output_statistics,
    sequences_read,
)
from flrc.calibration.statistics import OutputAccumulator, logit_gradients, token_gradients
from flrc.core.cache import StageCache
from flrc.decomposition.kfac import Kfac
from flrc.decomposition.statistics import Statistics
from flrc.decomposition.whitened import Whitened
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.running.factors import factorise
from flrc.running.profiling import Stages

NOTHING = OutputGradientSettings()


def collected(
    model: Any, targets: Any, sequences: Any, limit: float = 1e9
) -> dict[str, torch.Tensor]:
    found = {}
    for _, statistics in output_statistics(model, targets, sequences, NOTHING, limit):
        found |= {name: known.gram for name, known in statistics.items()}
    return found


def by_autograd(model: Any, names: list[str], sequences: Any) -> dict[str, torch.Tensor]:
    """``mean over tokens of g g^T`` from retained gradients of a plain backward pass."""
    sums: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            output.retain_grad()  # type: ignore[no-untyped-call]
            outputs[name] = output

        return hook

    handles = [model.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    model.requires_grad_(True)
    for sequence in sequences:
        logits = model(input_ids=sequence[None], use_cache=False).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, sequence[1:], reduction="sum").backward()
        for name, output in outputs.items():
            assert output.grad is not None
            rows = torch.stack([torch.outer(row, row) for row in output.grad[0]])
            sums[name] = sums.get(name, torch.zeros(())) + rows.sum(0)
    for handle in handles:
        handle.remove()
    tokens = sum(len(sequence) for sequence in sequences)
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = None
    return {name: total / tokens for name, total in sums.items()}


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_llama", "tiny_qwen2"])
def test_equals_plain_autograd(
    shape: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model(shape)
    targets = find_targets(model)
    expected = by_autograd(model, [t.name for t in targets], sequences)
    found = collected(model, targets, sequences)
    assert set(found) == set(expected)
    for name, gram in expected.items():
        torch.testing.assert_close(found[name], gram, rtol=1e-4, atol=1e-5 * float(gram.max()))
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_several_passes_give_what_one_gives(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    assert len(block_groups(targets, 1e9)) == 1
    assert len(block_groups(targets, 1.0)) == len({t.block for t in targets})
    whole, parts = (collected(model, targets, sequences, limit) for limit in (1e9, 1.0))
    for name, gram in whole.items():
        torch.testing.assert_close(parts[name], gram, rtol=1e-5, atol=1e-7 * float(gram.max()))


def test_groups_stay_within_the_limit() -> None:
    from flrc.plans.target import Target

    targets = [Target(f"{b}", 10, 10, b, "q", f"{b}") for b in range(5)]  # 400 bytes each
    assert block_groups(targets, 800) == [[0, 1], [2, 3], [4]]
    assert block_groups(targets, 799) == [[0], [1], [2], [3], [4]]
    assert block_groups(targets, 1) == [[0], [1], [2], [3], [4]]


def test_a_group_of_layers_has_a_joint_gram(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    layers = find_targets(model)
    groups = Shared().targets(layers)
    alone, joint = collected(model, layers, sequences), collected(model, groups, sequences)
    group = next(t for t in groups if len(t.layers) == 3)
    begin = 0
    for layer in group.layers:
        block = joint[group.name][begin : begin + layer.d_out, begin : begin + layer.d_out]
        torch.testing.assert_close(block, alone[layer.name])
        begin += layer.d_out
    first = group.layers[0].d_out
    assert float(joint[group.name][:first, first:].abs().max()) > 0  # not just block-diagonal


def test_ends_are_dropped_and_norms_clipped_by_hand() -> None:
    gradients = torch.tensor([[9.0, 9.0], [3.0, 4.0], [0.0, 0.0], [0.3, 0.4], [7.0, 7.0]])
    kept = token_gradients(gradients, OutputGradientSettings(drop=0.2, clip=(0.5, 2.0)))
    # Norms 5, 0, 0.5, mean 5.5 / 3 = 1.8333; bounds 0.91667 and 3.66667.
    expected = [[2.2, 2.93333], [0.0, 0.0], [0.55, 0.73333]]
    np.testing.assert_allclose(kept.numpy(), expected, atol=1e-4)


def test_an_overflowing_gradient_shows() -> None:
    accumulator = OutputAccumulator(2)
    assert not accumulator.result().gram.any()  # no gradient so far
    assert accumulator.result().finite
    accumulator.add(torch.tensor([[1.0, float("inf")]]))
    assert not accumulator.result().finite


@pytest.mark.parametrize("sizes", [(1e-30, 1e-30), (1e-42, 1e-42), (1e25, 1e25), (1.0, 1e25)])
def test_tiny_and_huge_gradients_are_neither_zero_nor_infinite(sizes: tuple[float, ...]) -> None:
    """Their squares exceed the range of float32, perhaps in one sequence only."""
    accumulator = OutputAccumulator(4, settings=OutputGradientSettings(clip=(0.5, 2.0)))
    expected = np.zeros((4, 4))
    for number, size in enumerate(sizes):
        generator = torch.Generator().manual_seed(number)
        g = torch.randn(30, 4, generator=generator) * size
        accumulator.add(g)
        clipped = token_gradients(g.double(), OutputGradientSettings(clip=(0.5, 2.0))).numpy()
        expected += clipped.T @ clipped / 60
    gram = accumulator.result().gram
    np.testing.assert_allclose(gram, expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_gradients_of_the_logits() -> None:
    """Of the text's tokens: softmax minus one-hot. Of the model's: the curvature, by draws."""
    logits = torch.tensor([[2.0, 0.0, -1.0, 0.5]], dtype=torch.float64)
    p = np.exp(logits.numpy()[0]) / np.exp(logits.numpy()[0]).sum()
    generator = torch.Generator().manual_seed(0)
    of_text = logit_gradients(logits, torch.tensor([1]), "data", generator)
    np.testing.assert_allclose(of_text.numpy()[0], p - np.array([0, 1, 0, 0]), rtol=1e-12)
    draws = 200_000
    many = logits.expand(draws, 4)
    following = torch.ones(draws, dtype=torch.long)
    curvature = np.diag(p) - np.outer(p, p)
    drawn = logit_gradients(many, following, "model", generator).numpy()
    np.testing.assert_allclose(drawn.mean(0), 0, atol=4e-3)
    np.testing.assert_allclose(drawn.T @ drawn / draws, curvature, atol=4e-3)
    both = logit_gradients(many, following, "both", generator).numpy()
    of_data = np.outer(of_text.numpy()[0], of_text.numpy()[0])
    np.testing.assert_allclose(both.T @ both / draws, (curvature + of_data) / 2, atol=6e-3)


@pytest.mark.parametrize("labels", ["model", "both"])
def test_every_pass_draws_the_same(
    labels: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)

    def grams(limit: float, seed: int) -> dict[str, torch.Tensor]:
        found = {}
        settings = OutputGradientSettings(labels=labels)
        for _, known in output_statistics(model, targets, sequences, settings, limit, seed):
            found |= {name: statistics.gram for name, statistics in known.items()}
        return found

    whole, parts, other = grams(1e9, 0), grams(1.0, 0), grams(1e9, 1)
    for name, gram in whole.items():
        torch.testing.assert_close(parts[name], gram, rtol=1e-5, atol=1e-7 * float(gram.max()))
        assert not torch.allclose(other[name], gram, rtol=1e-3)


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("enough", [None, 0.3])
def test_one_pass_gives_what_two_give(
    shape: str,
    dtype: str,
    enough: float | None,
    make_model: Callable[..., Any],
    sequences: list[torch.Tensor],
) -> None:
    """To the bit: a record must not depend on what the cache happened to hold."""
    model = make_model(shape, dtype=dtype)
    targets = find_targets(model)
    settings = OutputGradientSettings(labels="both", enough=enough)
    inputs = dict(input_statistics(model, targets, sequences))
    outputs = dict(output_statistics(model, targets, sequences, settings, 1e9, 3))
    blocks = list(joint_statistics(model, targets, sequences, settings, 3))
    assert [known.block for known in blocks] == sorted(inputs) == sorted(outputs)
    for known in blocks:
        assert set(known.inputs) == set(inputs[known.block])
        assert set(known.outputs) == set(outputs[known.block])
        for name, found in known.inputs.items():
            assert torch.equal(found.gram, inputs[known.block][name].gram), name
            assert torch.equal(found.mean_abs, inputs[known.block][name].mean_abs)
            assert found.tokens == inputs[known.block][name].tokens
        for name, gradients in known.outputs.items():
            assert torch.equal(gradients.gram, outputs[known.block][name].gram), name


def test_one_pass_only_where_it_saves_one(
    make_model: Callable[..., Any],
    sequences: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both unknown and small enough: one pass. Else whatever is missing, by itself."""
    model = make_model()
    targets = find_targets(model)
    needed = sum(8 * (d * d + d) for d in {t.input_group: t.d_in for t in targets}.values())
    needed += sum(4 * t.d_out**2 for t in targets)
    needed = max(needed, graph_bytes(model, targets, sequences))
    passes: list[str] = []
    for name in ("joint_statistics", "input_statistics", "output_statistics"):
        real = getattr(statistics_module, name)

        def counted(*arguments: Any, name: str = name, real: Any = real) -> Any:
            passes.append(name)
            return real(*arguments)

        monkeypatch.setattr(statistics_module, name, counted)

    def spectra(decomposition: Any, folder: str, memory: float) -> dict[str, torch.Tensor]:
        passes.clear()
        cache = StageCache(tmp_path / folder, 10**9)
        statistics = Statistics(
            decomposition,
            DenseModel(model, targets, sequences),
            cache.entry("statistics", {}),
            cache.entry("output_gradients", {}) if decomposition.TWO_SIDED else None,
            memory,
        )
        stored = factorise(statistics, cache.entry("factors", decomposition.describe()), Stages())
        return {target.name: stored.spectrum(target.name) for target in targets}

    one = spectra(Kfac(), "one", needed)
    assert passes == ["joint_statistics"]
    two = spectra(Kfac(), "two", needed - 1)
    assert sorted(passes) == ["input_statistics", "output_statistics"]
    assert all(torch.equal(one[name], two[name]) for name in one)
    spectra(Whitened(), "one", needed)
    assert not passes  # the inputs were kept
    spectra(Whitened(), "three", needed)
    spectra(Kfac(), "three", needed)
    assert passes == ["output_statistics"]


def test_gradients_of_enough_tokens_are_those_of_the_first_sequences(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    """Sequences of 40, 23 and 57 tokens; the widest outputs decide, in every pass."""
    model = make_model()
    targets = find_targets(model)
    widest = max(target.d_out for target in targets)
    for tokens, count in ((1, 1), (40, 1), (41, 2), (63, 2), (64, 3), (10_000, 3)):
        assert sequences_read(targets, sequences, tokens / widest) == count
    assert sequences_read(targets, sequences, None) == 3
    settings = OutputGradientSettings(enough=41 / widest)
    expected = collected(model, targets, sequences[:2])
    for limit in (1e9, 1.0):
        for _, known in output_statistics(model, targets, sequences, settings, limit):
            for name, found in known.items():
                assert found.tokens == 63
                gram = expected[name]
                largest = float(gram.max())
                torch.testing.assert_close(found.gram, gram, rtol=1e-5, atol=1e-7 * largest)
