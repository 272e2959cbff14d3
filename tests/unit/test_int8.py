"""8-bit factors: the rounding by hand, prefixes, bytes, and the models made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from plain_factors import stacked_factors

from flrc.allocator.evidence import Evidence
from flrc.allocator.planning import Plans, make_plans
from flrc.allocator.uniform import Uniform
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.dense import DenseLinear
from flrc.models.lowrank import low_rank_layers, target_parameters
from flrc.models.rows import FloatRows, Int8Rows
from flrc.models.surgery import activate, check_counts, compress
from flrc.models.targets import find_targets
from flrc.pipeline import run
from flrc.quantization.int8 import Int8
from flrc.records.accounting import stored_bytes
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive


def test_rounding_by_hand() -> None:
    rows = Int8Rows(torch.tensor([[127.0, -63.6, 0.4], [0.0, 0.0, 0.0], [0.0254, 0.0127, -0.0001]]))
    assert rows.values.tolist() == [[127, -64, 0], [0, 0, 0], [127, 64, 0]]  # 63.5: half to even
    torch.testing.assert_close(rows.scales, torch.tensor([1.0, 1.0, 0.0002]))
    torch.testing.assert_close(rows.dense()[0], torch.tensor([127.0, -64.0, 0.0]))


@pytest.mark.parametrize("rank", [None, 1, 4])
def test_products_are_numpys_and_a_prefix_is_a_prefix(rank: int | None) -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 9) * torch.logspace(-4, 2, 6)[:, None]
    x, y, bias = torch.randn(5, 9), torch.randn(5, 6 if rank is None else rank), torch.randn(9)
    plus = torch.randn(5, 6 if rank is None else rank)
    # Numpy, from the definition alone.
    plain = values.numpy()[:rank].astype(np.float64)
    step = abs(plain).max(1, keepdims=True) / 127
    rounded = np.round(plain / step) * step
    assert abs(rounded - plain).max(1) == pytest.approx(0, abs=float(step.max()) / 2 + 1e-6)
    for rows, matrix in ((Int8Rows(values), rounded), (FloatRows(values), plain)):
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(rows.products(x, rank), x.numpy() @ matrix.T, **close)
        with_plus = rows.products(x, rank, plus)
        np.testing.assert_allclose(with_plus, x.numpy() @ matrix.T + plus.numpy(), **close)
        np.testing.assert_allclose(rows.combine(y, rank), y.numpy() @ matrix, **close)
        shifted = rows.combine(y, rank, bias)
        np.testing.assert_allclose(shifted, y.numpy() @ matrix + bias.numpy(), **close)


def compressed(model: Any, form: Form, schedule: Any, grouping: Any) -> tuple[Any, Plans]:
    targets = grouping(find_targets(model)) if grouping else find_targets(model)
    plans = make_plans(Uniform(), schedule, targets, form, Evidence(), 0.3)
    compress(model, targets, plans.all, form, stacked_factors(model, targets))
    activate(model, plans.constant)
    return targets, plans


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("form", "schedule", "grouping"),
    [
        (TwoFactor(), Progressive(), None),
        (TwoFactor(), Constant(), Shared().targets),
        (Pivoted(), Constant(), None),
        (Pivoted(), Constant(), Shared().targets),
    ],
)
def test_a_model_of_every_form(
    form: Form, schedule: Any, grouping: Any, dtype: str, make_model: Callable[..., Any]
) -> None:
    model = make_model("tiny_qwen2", dtype=dtype, spread=0.02)
    targets, plans = compressed(model, form, schedule, grouping)
    ids = torch.arange(60)[None]
    names = [layer.name for target in targets for layer in target.layers]
    floats: dict[int, Any] = {}
    for number, plan in enumerate(plans.all):
        activate(model, plan)
        floats[number] = model(input_ids=ids).logits.float()
    before, counted = stored_bytes(model, targets), target_parameters(model, names)
    Int8().quantize(model, targets)
    activate(model, plans.constant)
    assert target_parameters(model, names) == target_parameters(model, names)
    check_counts(model, targets, plans, form)
    assert target_parameters(model, names)[1] == counted[1]
    for number, plan in enumerate(plans.all):
        activate(model, plan)
        logits = model(input_ids=ids).logits.float()
        error = (logits - floats[number]).norm() / floats[number].norm()
        assert 0 < float(error) < 0.06, number
    after = stored_bytes(model, targets)
    biases = sum(
        layer.bias.nbytes
        for layer in (model.get_submodule(name) for name in names)
        if layer.bias is not None
    )
    orders = sum(
        {
            m.order.data_ptr(): m.order.nbytes
            for m in low_rank_layers(model).values()
            if hasattr(m, "order")
        }.values()
    )
    itemsize = getattr(torch, dtype).itemsize
    assert before["targets_stored"] == counted[1] * itemsize + biases + orders
    scales = sum(
        {
            r.scales.data_ptr(): r.scales.nbytes for r in model.modules() if isinstance(r, Int8Rows)
        }.values()
    )
    assert after["targets_stored"] == counted[1] + scales + biases + orders
    rest = before["model_stored"] - before["targets_stored"]
    assert after["model_stored"] - after["targets_stored"] == rest
    # Nothing but the targets is rounded.
    assert model.get_input_embeddings().weight.dtype == getattr(torch, dtype)


def test_what_stays_dense_is_quantised_too(make_model: Callable[..., Any]) -> None:
    model = make_model("tiny_qwen2")
    linear = model.model.layers[0].mlp.down_proj
    weight = linear.weight.clone()
    Int8().quantize(model, find_targets(model))
    layer = model.model.layers[0].mlp.down_proj
    assert isinstance(layer, DenseLinear)
    assert layer.weight.values.dtype == torch.int8
    assert float((layer.weight.dense() - weight).abs().max()) <= float(weight.abs().max()) / 254
    assert type(model.lm_head) is torch.nn.Linear


def test_shared_factors_are_quantised_once(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets, _ = compressed(model, TwoFactor(), Constant(), Shared().targets)
    Int8().quantize(model, targets)
    for target in targets:
        layers = [model.get_submodule(layer.name) for layer in target.layers]
        assert len({id(layer.input_rows) for layer in layers}) == 1


@pytest.mark.parametrize("method", ["flrc", "kfac_skipcat", "flra"])
def test_a_run(method: str, run_config: Callable[..., Any]) -> None:
    """Half the bytes of float16, hardly another perplexity."""
    overrides = [f"method={method}", "search=none", "rate=0.3"]
    plain = run(run_config(*overrides))
    quantised = run(run_config(*overrides, "quantization=int8"))
    for record in (plain, quantised):
        assert record.run["status"] == "ok", record.run
    assert plain.run["id"] != quantised.run["id"]
    values = [r.measurements[0].value for r in (plain, quantised)]
    assert values[0] != values[1]
    assert values[1] == pytest.approx(values[0], rel=0.02)
    stored = plain.results["parameters"]["targets_stored"]
    assert stored == quantised.results["parameters"]["targets_stored"]
    assert plain.results["bytes"]["targets_stored"] >= 4 * stored
    # Tiny factors: a scale of four bytes a row of some tens of integers is more than 4 %.
    assert quantised.results["bytes"]["targets_stored"] < 0.75 * 2 * stored
