"""Shared right factors: computed once, stored once, and never a stale result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_factors import stacked_factors
from torch import Tensor, nn

from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import check_counts, compress
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import FloatRows
from flrc.models.layers.sizes import target_parameters
from flrc.models.layers.switching import activate
from flrc.plans.phase import Phase
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target

WIDTHS = (6, 4, 5)
FORMS = [TwoFactor(), Pivoted()]
both = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def group(form: Form, monkeypatch: pytest.MonkeyPatch) -> tuple[list[FactoredLinear], list[int]]:
    """Three layers that share an input, and the calls of the product that they share."""
    torch.manual_seed(0)
    linears = [nn.Linear(9, width).requires_grad_(False) for width in WIDTHS]
    built = form.build(torch.randn(3, sum(WIDTHS)), torch.randn(3, 9), linears, False)
    layers = [layer for layer in built if isinstance(layer, FactoredLinear)]
    calls: list[int] = []
    plain = type(layers[0]).project

    def counted(self: FactoredLinear, x: Tensor) -> Tensor:
        calls.append(id(self))
        return plain(self, x)

    monkeypatch.setattr(type(layers[0]), "project", counted)
    return layers, calls


def fresh(layer: FactoredLinear, x: Tensor) -> Tensor:
    """What the layer must return, without any cached product."""
    shared, layer.shared = layer.shared, None
    try:
        return layer(x)
    finally:
        layer.shared = shared


def check(layers: list[FactoredLinear], x: Tensor) -> None:
    with torch.no_grad():
        expected = [fresh(layer, x) for layer in layers]
        for layer, value in zip(layers, expected, strict=True):
            assert torch.equal(layer(x), value)


@both
def test_the_product_is_computed_once_per_input(form: Form, monkeypatch: Any) -> None:
    layers, calls = group(form, monkeypatch)
    for x in (torch.randn(2, 9), torch.randn(1, 7, 9)):
        expected = [fresh(layer, x) for layer in layers]
        calls.clear()
        outputs = [layer(x) for layer in layers]
        assert len(calls) == 1
        assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
        assert layers[0].shared is not None
        assert layers[0].shared._last is None  # forgotten when all have used it
    # Any order, and the same tensor again in a second pass.
    calls.clear()
    for layer in (*reversed(layers), *layers):
        layer(x)
    assert len(calls) == 2


@both
def test_parameters_are_held_once(form: Form, monkeypatch: Any) -> None:
    layers, _ = group(form, monkeypatch)
    holder = nn.ModuleList(layers)
    biases = sum(WIDTHS)
    target = Target("t", sum(WIDTHS), 9, 0, "t", "t")
    assert sum(p.numel() for p in holder.parameters()) == form.cost(3, target) + biases
    assert target_parameters(holder, ["0", "1", "2"]) == (form.cost(3, target),) * 2
    assert len({id(layer.input_rows) for layer in layers}) == 1
    holder.to(torch.float64)
    assert sum(p.numel() for p in holder.parameters()) == form.cost(3, target) + biases
    check(layers, torch.randn(2, 9, dtype=torch.float64))


@both
def test_a_changed_input_is_computed_afresh(form: Form, monkeypatch: Any) -> None:
    layers, _ = group(form, monkeypatch)
    x = torch.randn(2, 9)
    layers[0](x)
    x.mul_(3)  # in place, between two layers
    check(layers[1:], x)
    layers[0](x)
    x[0, 0] = 5
    check(layers[1:], x)
    view = x[:]
    layers[0](x)
    view.add_(1)  # through a view
    check(layers[1:], x)
    layers[0](x)
    x.data = torch.randn(2, 9)  # other contents under the same object
    check(layers[1:], x)
    layers[0](x)
    x.resize_(1, 9)
    check(layers[1:], x)


@both
def test_a_new_tensor_at_the_same_address_is_another_input(form: Form, monkeypatch: Any) -> None:
    layers, calls = group(form, monkeypatch)
    seen = set()
    for step in range(50):
        x = torch.full((2, 9), float(step))
        seen.add(x.data_ptr())
        check(layers[step % 3 :][:1], x)  # one layer only: nothing is completed
        del x
    x = torch.randn(2, 9)
    calls.clear()
    layers[0](x)
    layers[1](x.view(2, 9))  # the same memory, another object: computed again, and right
    assert len(calls) == 2


@both
def test_changed_weights_are_computed_afresh(form: Form, monkeypatch: Any) -> None:
    layers, _ = group(form, monkeypatch)
    x = torch.randn(2, 9)
    layers[0](x)
    layers[0].input_rows.values.mul_(2)
    check(layers[1:], x)
    layers[0](x)
    layers[0].input_rows.values.data = torch.randn_like(layers[0].input_rows.values)
    check(layers[1:], x)
    # A layer that is given its own factor (no longer shared) computes with it.
    name = "right" if isinstance(form, TwoFactor) else "coefficients"
    layers[0](x)
    own = FloatRows(torch.randn_like(layers[1].input_rows.dense()))
    setattr(layers[1], name, own)
    check(layers, x)
    active, _ = target_parameters(nn.ModuleList(layers), ["0", "1", "2"])
    target = Target("t", sum(WIDTHS), 9, 0, "t", "t")
    assert active == form.cost(3, target) + own.dense().numel()


def test_another_rank_is_computed_afresh(monkeypatch: Any) -> None:
    layers, calls = group(TwoFactor(), monkeypatch)
    x = torch.randn(2, 9)
    layers[0](x)
    for layer in layers:
        layer.rank = 2
    check(layers[1:], x)
    layers[0].rank = 1  # layers of one group at two ranks: unusual, and right
    calls.clear()
    check(layers, x)


@both
def test_gradients_keep_graphs_of_their_own(form: Form, monkeypatch: Any) -> None:
    layers, calls = group(form, monkeypatch)
    x = torch.randn(2, 9)
    with torch.no_grad():
        layers[0](x)
    x.requires_grad_()  # switched on between two layers
    calls.clear()
    output = layers[1](x)
    assert output.requires_grad
    assert len(calls) == 1
    layers[2](x).sum().backward()
    output.sum().backward()  # its graph differs from the other's
    assert x.grad is not None
    factor = layers[0].input_rows.values
    factor.requires_grad_()
    layers[0](x.detach()).sum().backward()
    assert factor.grad is not None


@both
def test_inference_mode_and_autocast(form: Form, monkeypatch: Any) -> None:
    layers, _ = group(form, monkeypatch)
    with torch.inference_mode():
        x = torch.randn(2, 9)
        layers[0](x)
        x.mul_(2)
        check(layers[1:], x)
    y = torch.randn(2, 9)
    with torch.inference_mode():
        layers[0](y)
    # No inference tensor is left to a pass outside, where it could not be recorded.
    assert not layers[1](y).is_inference()
    # In full precision two layers have asked; the third asks in bfloat16, and the other way round.
    layers[0](y)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = fresh(layers[2], y)
        assert torch.equal(layers[2](y), rounded)
        layers[0](y)
    check(layers[1:], y)
    assert not torch.equal(fresh(layers[2], y), rounded)
    check(layers, y)


@both
def test_threads_see_their_own_input(form: Form, monkeypatch: Any) -> None:
    layers, _ = group(form, monkeypatch)
    wrong: list[int] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _ in range(150):
                x = torch.randn(2, 9, generator=generator)
                expected = [layer.expand(layer.project(x)) for layer in layers]
                outputs = [layer(x) for layer in layers]
                if not all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True)):
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_failed_product_is_not_remembered(monkeypatch: Any) -> None:
    layers, _ = group(TwoFactor(), monkeypatch)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            layers[0](torch.randn(2, 8))
    check(layers, torch.randn(2, 9))


@both
@pytest.mark.parametrize("shape", ["tiny_llama", "tiny_qwen2", "tiny_gemma3"])
def test_one_product_a_group_in_a_model(
    form: Form, shape: str, make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(shape)
    targets = Shared().targets(find_targets(model))
    assert len(targets) < len(find_targets(model))
    plan = RankPlan.of(0.3, {t.name: 9 for t in targets}, targets, form)
    compress(model, targets, [plan], form, stacked_factors(model, targets))
    calls: list[str | None] = []
    kind = type(next(iter(low_rank_layers(model).values())))
    plain = kind.project
    monkeypatch.setattr(
        kind, "project", lambda self, x: (calls.append(self.target), plain(self, x))[1]
    )
    with torch.no_grad():
        model(input_ids=torch.arange(7)[None])
    assert sorted(map(str, calls)) == sorted(t.name for t in targets)  # each exactly once


def test_grouped_phases_nest_and_a_dense_phase_is_dense(make_model: Callable[..., Any]) -> None:
    """Two factors in groups follow a schedule: ranks by the group's name, weights kept if asked."""
    model = make_model("tiny_qwen2")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    targets = Shared().targets(find_targets(model))
    form = TwoFactor()
    plans = [
        RankPlan.of(rate, {t.name: rank for t in targets}, targets, form)
        for rate, rank in ((0.0, None), (0.5, 9), (0.7, 4))
    ]
    compress(model, targets, plans, form, stacked_factors(model, targets))
    phases = [(Phase(0.0, 0.0), plans[0]), (Phase(0.5, 0.7), plans[2])]
    check_counts(model, targets, Plans(plans[1], phases), form)
    assert {layer.rank for layer in low_rank_layers(model).values()} == {9}
    names = [layer.name for target in targets for layer in target.layers]
    for plan, rank in zip(plans, (None, 9, 4), strict=True):
        activate(model, plan)
        by_hand = sum(
            (rank or 0) * (t.d_in + sum(m.d_out for m in t.layers)) if rank else t.dense
            for t in targets
        )
        assert target_parameters(model, names)[0] == by_hand
    activate(model, plans[0])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before)
