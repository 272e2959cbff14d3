"""The pivoted form: the same outputs as two plain factors, correct counts and errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_plans import make_plans
from plain_factors import stacked_factors
from right_factors import NASTY, random
from tiny import compose
from torch import Tensor, nn

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.calibration.dense_model import DenseModel
from flrc.config import components
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import check_counts, compress
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.layers.sizes import target_parameters
from flrc.models.layers.switching import activate
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target
from flrc.running.accounting import account, note_coefficients
from flrc.runtime.decoding import Decoder
from flrc.schedule.constant import Constant

SHAPES = ["tiny_llama", "tiny_llama_gqa", "tiny_mistral", "tiny_qwen2", "tiny_qwen3", "tiny_gemma"]
IDS = torch.arange(40)[None]


def linear(d_out: int, d_in: int, dtype: torch.dtype = torch.float32) -> nn.Linear:
    return nn.Linear(d_in, d_out, dtype=dtype).requires_grad_(False)


@pytest.mark.parametrize("make", NASTY, ids=lambda f: f.__name__)
def test_bfloat16_loses_little_more_than_two_factors_do(make: Callable[[], Tensor]) -> None:
    right = make()
    left_t = random(right.shape[0], 50, seed=2)
    dense = linear(50, right.shape[1], torch.bfloat16)
    x = random(200, right.shape[1], seed=3).bfloat16()
    exact = x.double() @ (left_t.T @ right).T + dense.bias.double()

    def error(form: Form) -> float:
        (layer,) = form.build(left_t, right, [dense], False)
        return float((layer(x).double() - exact).norm() / exact.norm())

    assert error(Pivoted()) < 4 * error(TwoFactor()) + 2**-9


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_the_layer_is_numpy(rank: int) -> None:
    dense = linear(14, 12)
    left_t, right = random(rank, 14), random(rank, 12, seed=1)
    (layer,) = Pivoted().build(left_t, right, [dense], True)
    x = random(2, 3, 12, seed=2).float()
    expected = x.numpy() @ (left_t.T @ right).numpy().T + dense.bias.numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    # By hand from the stored parts: an identity at the pivots, the coefficients elsewhere.
    identity = np.zeros((rank, 12))
    identity[:, layer.order[:rank]] = np.eye(rank)
    identity[:, layer.order[rank:]] = layer.coefficients.dense().numpy()
    np.testing.assert_allclose(
        layer.left_t.dense().T.numpy() @ identity, left_t.T @ right, rtol=1e-4, atol=1e-5
    )
    assert (layer.rank, layer.active_parameters) == (rank, rank * (14 + 12 - rank))
    layer.rank = None
    assert torch.equal(layer(x), dense(x))
    assert layer.active_parameters == 14 * 12
    assert target_parameters(layer, [""])[1] == rank * (26 - rank) + 14 * 12
    layer.rank = rank
    for other in (rank - 1, rank + 1):
        with pytest.raises(ValueError, match="cannot run"):
            layer.rank = other
    assert layer.rank == rank
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    assert layer.order.dtype == torch.int32
    assert not any(p.requires_grad for p in layer.parameters())


def test_cost_grows_up_to_the_dense_one() -> None:
    for d_out, d_in in ((6, 9), (9, 6), (7, 7)):
        target = Target("t", d_out, d_in, 0, "q", "t")
        costs = [Pivoted().cost(rank, target) for rank in range(1, min(d_out, d_in) + 1)]
        assert costs == sorted(set(costs))
        assert costs[-1] == target.dense
        assert Pivoted().dense_rank(target) == min(d_out, d_in)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def grouped(model: Any, grouping: str) -> list[Target]:
    made: Any = components("grouping")[grouping]()
    return made.targets(find_targets(model))


@pytest.mark.parametrize("grouping", ["separate", "shared"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_model_as_with_two_factors(
    shape: str, grouping: str, make_model: Callable[..., Any]
) -> None:
    made = []
    for form in (TwoFactor(), Pivoted()):
        model = make_model(shape, spread=0.1)
        targets = grouped(model, grouping)
        ranks: dict[str, int | None] = {t.name: 8 + i % 7 for i, t in enumerate(targets)}
        plan = RankPlan.of(0.3, ranks, targets, form)
        compress(model, targets, [plan], form, stacked_factors(model, targets))
        activate(model, plan)
        check_counts(model, targets, Plans(plan, []), form)
        made.append(logits(model))
    assert float((made[0] - made[1]).norm() / made[0].norm()) < 1e-5


@pytest.mark.parametrize("grouping", ["separate", "shared"])
def test_counts_bytes_and_coefficients_in_the_record(
    grouping: str, make_model: Callable[..., Any]
) -> None:
    model = make_model("tiny_qwen2", "bfloat16")
    config = compose("method=skipcat", f"grouping={grouping}", "rate=0.3", "form.bound=1.5")
    form = config.form
    targets = grouped(model, grouping)
    plans = make_plans(Uniform(), Constant(), targets, form, Evidence(), 0.3)
    before = sum(p.numel() for p in model.parameters())
    context: Any = SimpleNamespace(config=config, dense=DenseModel(model, targets))

    class Stored:
        def spectrum(self, name: str) -> Tensor:
            return torch.ones(4)

    results = account(context, plans, Stored(), {})  # type: ignore[arg-type]
    compress(model, targets, plans.all, form, stacked_factors(model, targets))
    check_counts(model, targets, plans, form)
    note_coefficients(results["layers"], model, targets)

    by_hand, indices = 0, 0
    for target in targets:
        rank = plans.constant.ranks[target.name]
        assert rank is not None
        by_hand += rank * (sum(t.d_out for t in target.layers) + target.d_in - rank)
        indices += 4 * target.d_in
    names = [layer.name for target in targets for layer in target.layers]
    assert target_parameters(model, names) == (by_hand, by_hand)
    numbers = results["parameters"]
    assert (numbers["targets_activated"], numbers["targets_stored"]) == (by_hand, by_hand)
    assert numbers["model_dense"] == before
    # Measured on the model: each tensor once.
    assert numbers["model_stored"] == sum(p.numel() for p in model.parameters())
    buffers = {id(m.order): m.order for m in model.modules() if isinstance(m, PivotedLinear)}
    assert sum(b.numel() * b.itemsize for b in buffers.values()) == indices
    assert results["bytes"]["indices"] == indices
    assert results["bytes"]["model_stored"] == 2 * numbers["model_stored"] + indices
    assert [row["target"] for row in results["layers"]] == [t.name for t in targets]
    found = [row["largest_coefficient"] for row in results["layers"]]
    assert all(0 < value <= 1.5 for value in found)


def test_generation_gives_the_tokens_of_two_factors(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    replies = []
    for form in (TwoFactor(), Pivoted()):
        model = make_model("tiny_qwen2")
        targets = grouped(model, "shared")
        ranks: dict[str, int | None] = {t.name: 10 for t in targets}
        plan = RankPlan.of(0.3, ranks, targets, form)
        compress(model, targets, [plan], form, stacked_factors(model, targets))
        plans = Plans(plan, [(Constant().phases(0.3)[0], plan)])
        ids = torch.randint(0, 256, (3, 12), generator=torch.Generator().manual_seed(0))
        mask = torch.ones_like(ids)
        decoder = Decoder(model, tokenizer, plans)
        replies.append(decoder.generate(input_ids=ids, attention_mask=mask, max_new_tokens=16))
    assert torch.equal(*replies)
    assert len({tuple(reply) for reply in replies[0].tolist()}) == 3


def test_presets() -> None:
    assert compose("method=flra", "form=pivoted").form.name == "pivoted"
    assert compose("method=dense", "form=pivoted", "schedule=progressive").rate >= 0
    skipcat = compose("method=skipcat")
    assert (skipcat.grouping.name, skipcat.form.name) == ("shared", "pivoted")


def test_a_copied_model_is_independent(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = grouped(model, "shared")
    plan = RankPlan.of(0.3, {t.name: 10 for t in targets}, targets, Pivoted())
    compress(model, targets, [plan], Pivoted(), stacked_factors(model, targets))
    before = logits(model)
    other = copy.deepcopy(model)
    layer = other.get_submodule(targets[0].layers[0].name)
    layer.coefficients.dense().zero_()
    assert torch.equal(logits(model), before)
    assert not torch.allclose(logits(other), before)
    assert sum(p.numel() for p in other.parameters()) == sum(p.numel() for p in model.parameters())
