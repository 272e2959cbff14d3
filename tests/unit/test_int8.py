"""8-bit factors: the rounding by hand, prefixes, bytes, and the models made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from made_plans import make_plans
from plain_factors import stacked_factors

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import check_counts, compress
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.dense_linear import DenseLinear
from flrc.models.layers.int8_rows import Int8Rows
from flrc.models.layers.rows import FloatRows
from flrc.models.layers.sizes import stored_bytes, target_parameters
from flrc.models.layers.switching import activate
from flrc.pipeline import run
from flrc.plans.run_plans import Plans
from flrc.quantization.int8 import Int8
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive


def numpys(values: np.ndarray, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the definition alone: the rounded matrix, each row's step, each column's exponent."""
    values = values.astype(np.float64)
    columns = np.ones(values.shape[1])
    for _ in range(3):
        rows = np.sqrt(np.mean((values / columns) ** 2, axis=1, keepdims=True))
        columns = np.sqrt(np.mean((values / rows) ** 2, axis=0))
        columns = np.clip(columns / columns.mean(), 2.0**-8, 2.0**8)
    exponents = np.round(np.log2(columns))
    even = values / 2**exponents
    step = np.abs(even).max(axis=1, keepdims=True) / 127
    rounded = np.round(even / step)
    rounded[:fine] += np.round((even / step - rounded)[:fine] * 254) / 254
    return rounded * step * 2**exponents, step, exponents


def test_rounding_by_hand() -> None:
    """Columns of one size: the exponents are 0, and a row's largest magnitude is 127 steps."""
    values = torch.tensor([[127.0, -126.4, 126.6], [0.0254, 0.0252, -0.0253], [0.0, 0.0, 0.0]])
    rows = Int8Rows(values)
    assert rows.exponents.tolist() == [0, 0, 0]
    assert rows.values.tolist() == [[127, -126, 127], [127, 126, -126], [0, 0, 0]]  # 126.5: to even
    torch.testing.assert_close(rows.scales, torch.tensor([1.0, 0.0002, 1.0]))
    torch.testing.assert_close(rows.dense()[0], torch.tensor([127.0, -126.0, 127.0]))
    # The first row again, its rounding errors 0, -0.4 and -0.4 in steps of 1 / 254.
    fine = Int8Rows(values, fine=1)
    assert fine.remainder.tolist() == [[0, -102, -102]]
    torch.testing.assert_close(fine.dense()[0], values[0], rtol=0, atol=1 / 508 + 1e-5)
    torch.testing.assert_close(fine.dense()[1:], rows.dense()[1:])


def test_a_large_column_costs_the_others_nothing() -> None:
    """With only one scale per row, everything else would be rounded to steps of about one."""
    torch.manual_seed(0)
    values = torch.randn(64, 48)
    values[:, 5] *= 100.0
    error = (Int8Rows(values).dense() - values)[:, [c for c in range(48) if c != 5]]
    assert float(error.abs().max()) < 0.04
    alone = values.abs().amax(1, keepdim=True) / 127
    assert float(((values / alone).round() * alone - values).abs().max()) > 0.5


@pytest.mark.parametrize("fine", [0, 1, 3])
@pytest.mark.parametrize("rank", [None, 1, 4])
def test_products_are_numpys_and_a_prefix_is_a_prefix(rank: int | None, fine: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 9) * torch.logspace(-4, 2, 6)[:, None] * torch.logspace(-1, 1, 9)
    x, y, bias = torch.randn(5, 9), torch.randn(5, 6 if rank is None else rank), torch.randn(9)
    plus = torch.randn(5, 6 if rank is None else rank)
    plain = values.numpy()
    rounded, step, exponents = numpys(plain, fine)
    assert len(set(exponents)) > 3
    halves = np.where(np.arange(6) < fine, 1 / 254, 1.0)[:, None] * step * 2**exponents / 2
    assert (abs(rounded - plain) <= halves + 1e-6 * abs(plain)).all()
    held = Int8Rows(values, fine)
    assert held.exponents.tolist() == exponents.tolist()
    assert held.bytes(rank) == len(y[0]) * (9 + 4) + 9 + 9 * fine
    for rows, matrix in ((held, rounded[:rank]), (FloatRows(values), plain[:rank])):
        close = {"rtol": 1e-4, "atol": 1e-4}
        np.testing.assert_allclose(rows.products(x, rank), x.numpy() @ matrix.T, **close)
        with_plus = rows.products(x, rank, plus)
        np.testing.assert_allclose(with_plus, x.numpy() @ matrix.T + plus.numpy(), **close)
        np.testing.assert_allclose(rows.combine(y, rank), y.numpy() @ matrix, **close)
        shifted = rows.combine(y, rank, bias)
        np.testing.assert_allclose(shifted, y.numpy() @ matrix + bias.numpy(), **close)


def test_columns_without_anything_in_them() -> None:
    values = torch.randn(4, 5)
    values[:, 2] = 0
    for matrix in (values, torch.zeros(3, 4), torch.zeros(4, 0), torch.zeros(0, 4)):
        rows = Int8Rows(matrix, fine=1)
        assert rows.dense().isfinite().all()
        torch.testing.assert_close(rows.dense(), matrix, rtol=0, atol=0.02)


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
        4 * r.count + r.width + (r.width if form.NESTED else 0)
        for r in model.modules()
        if isinstance(r, Int8Rows)
    )
    assert after["targets_stored"] == counted[1] + scales + biases + orders
    rest = before["model_stored"] - before["targets_stored"]
    assert after["model_stored"] - after["targets_stored"] == rest
    # Only the targets are rounded.
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
    """Half the bytes of float16, hardly any difference in perplexity."""
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


def test_scales_stay_float32_in_every_dtype() -> None:
    """In float16 the smallest scales would be 0, and the row with them."""
    values = torch.randn(4, 6) * torch.tensor([1e-7, 1.0, 1e3, 1e8])[:, None]
    rows = Int8Rows(values, fine=1)
    expected = rows.dense()
    for kept in (rows.half(), rows.to(torch.bfloat16), rows.double(), rows.float(), rows.to("cpu")):
        assert kept is rows
        assert {name: tensor.dtype for name, tensor in rows.state_dict().items()} == {
            "values": torch.int8, "scales": torch.float32,
            "exponents": torch.int8, "remainder": torch.int8,
        }  # fmt: skip
        assert torch.equal(rows.dense(), expected)
    assert rows.to("meta").scales.is_meta
