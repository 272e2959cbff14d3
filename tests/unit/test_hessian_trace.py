"""Hutchinson's traces against exact Hessians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from flrc.calibration.dense_model import DenseModel
from flrc.calibration.hessian import hessian_traces, quadratic_forms, signs
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.plans.target import Target
from flrc.sensitivity.hessian_trace import HessianTrace


def test_quadratic_forms_of_a_known_hessian() -> None:
    """``f = w^T A w / 2`` over two weights of 2 and 3 entries: the Hessian is A."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(5, 5))
    a = a + a.T
    first = torch.randn(2, 1, dtype=torch.float64, requires_grad=True)
    second = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    w = torch.cat([first.flatten(), second.flatten()])
    loss = w @ torch.from_numpy(a) @ w / 2
    gradients = torch.autograd.grad(loss, [first, second], create_graph=True)
    # Over all 32 sign vectors the mean is exactly the trace of each block.
    forms = []
    for bits in range(32):
        z = torch.tensor([1.0 if bits >> i & 1 else -1.0 for i in range(5)]).double()
        directions = [z[:2].reshape(2, 1), z[2:].reshape(1, 3)]
        found = quadratic_forms(gradients, [first, second], directions)
        product = a @ z.numpy()
        assert found[0] == pytest.approx(z.numpy()[:2] @ product[:2])
        assert found[1] == pytest.approx(z.numpy()[2:] @ product[2:])
        forms.append(found)
    assert np.mean(forms, axis=0) == pytest.approx([np.trace(a[:2, :2]), np.trace(a[2:, 2:])])


def test_signs_are_fair_and_seeded() -> None:
    shapes = [torch.Size([100, 50]), torch.Size([30])]
    first, again = (signs(shapes, torch.Generator().manual_seed(3)) for _ in range(2))
    assert [z.shape for z in first] == shapes
    assert set(first[0].unique().tolist()) == {-1, 1}
    assert abs(float(first[0].double().mean())) < 0.06  # four standard deviations
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    other = signs(shapes, torch.Generator().manual_seed(4))
    assert not torch.equal(first[0], other[0])


def exact_trace(model: Any, name: str, sequences: list[Tensor]) -> float:
    """Sum of the exact second derivatives of the mean token loss, over one weight."""
    key = f"{name}.weight"
    weight = model.get_parameter(key).detach()

    def loss(flat: Tensor) -> Tensor:
        total = torch.zeros((), dtype=weight.dtype)
        for sequence in sequences:
            changed = {key: flat.reshape(weight.shape)}
            output = functional_call(
                model, changed, kwargs={"input_ids": sequence[None], "use_cache": False}
            )
            total = total + torch.nn.functional.cross_entropy(
                output.logits[0, :-1], sequence[1:], reduction="sum"
            )
        return total / sum(len(s) - 1 for s in sequences)

    hessian = torch.autograd.functional.hessian(loss, weight.flatten())
    return float(hessian.diagonal().sum())


@pytest.fixture
def small(make_model: Callable[..., Any]) -> Any:
    """A one-block model of width 8 in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).double().eval().requires_grad_(False)


@pytest.mark.parametrize("projection", ["k_proj", "o_proj", "down_proj"])
def test_traces_of_a_model_against_its_exact_hessian(small: Any, projection: str) -> None:
    sequences = [torch.tensor([3, 7, 1, 12, 5]), torch.tensor([2, 9, 4])]
    (target,) = (t for t in find_targets(small) if t.projection == projection)
    runs = [hessian_traces(small, [target], sequences, 60, seed) for seed in range(5)]
    small.set_attn_implementation("eager")  # another way of attention
    exact = exact_trace(small, target.name, sequences)
    found = np.array([run[target.name] for run in runs])
    error = found.std(ddof=1) / len(found) ** 0.5
    assert abs(found.mean() - exact) < 5 * error
    assert error < 0.3 * abs(exact)


def test_the_score_is_the_absolute_mean_by_entry(small: Any) -> None:
    sequences = [torch.tensor([3, 7, 1, 12, 5]), torch.tensor([2, 9, 4])]
    layers = find_targets(small)
    traces = hessian_traces(small, layers, sequences[:1], 2, 5)
    score = HessianTrace(draws=2, samples=1)

    def scores(targets: list[Target]) -> dict[str, float]:
        return score.score(DenseModel(small, targets, sequences, seed=5), lambda _: {})

    single = scores(layers)
    for target in layers:
        entries = small.get_parameter(f"{target.name}.weight").numel()
        assert single[target.name] == pytest.approx(abs(traces[target.name]) / entries)
    groups = Shared().targets(layers)
    assert len(groups) == 4
    grouped = scores(groups)
    for group in groups:
        entries_of = [layer.d_in * layer.d_out for layer in group.layers]
        mean = np.average([single[layer.name] for layer in group.layers], weights=entries_of)
        assert grouped[group.name] == pytest.approx(mean)


def test_the_model_is_left_as_it_was(
    make_model: Callable[..., Any], sequences: list[Tensor]
) -> None:
    model = make_model()  # scaled-dot-product attention, as loaded
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = hessian_traces(model, find_targets(model), sequences[:1], 1, 0)
    assert all(np.isfinite(value) and value != 0 for value in found.values())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = hessian_traces(model, find_targets(model), sequences[:1], 1, 0)
    assert again == found
    assert hessian_traces(model, find_targets(model), sequences[:1], 1, 1) != found
