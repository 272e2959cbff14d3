"""The low-rank layer and the surgery, against numpy and against the dense model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from made_plans import make_plans
from torch import Tensor, nn

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.decomposition.svd import Svd
from flrc.form.surgery import check_counts, compress, stored_parameters
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.low_rank_linear import LowRankLinear
from flrc.models.layers.rows import FloatRows
from flrc.models.layers.sizes import target_parameters
from flrc.models.layers.switching import activate
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target
from flrc.schedule.progressive import Progressive

FORM = TwoFactor()


def layer(bias: bool = True, dense: bool = True, rank: int = 5) -> LowRankLinear:
    torch.manual_seed(1)
    return LowRankLinear(
        torch.randn(rank, 7),
        torch.randn(rank, 9),
        torch.randn(7) if bias else None,
        torch.randn(7, 9) if dense else None,
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [1, 3, 5, None])
def test_forward_is_numpy(bias: bool, rank: int | None) -> None:
    low = layer(bias)
    x = torch.randn(2, 4, 9)
    low.rank = rank
    factors = low.left_t.dense()[:rank], low.right.dense()[:rank]
    weight = low.weight.dense() if rank is None else factors[0].T @ factors[1]
    expected = x.numpy() @ weight.detach().numpy().T
    if bias:
        expected = expected + low.bias.detach().numpy()
    np.testing.assert_allclose(low(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert low.rank == rank
    assert low.active_parameters == (63 if rank is None else rank * 16)
    assert target_parameters(low, [""])[1] == 5 * 16 + 63


@pytest.mark.parametrize("rank", [0, -1, 6])
def test_rank_out_of_range(rank: int) -> None:
    low = layer()
    with pytest.raises(ValueError, match=r"1\.\.5"):
        low.rank = rank
    assert low.rank == 5


def test_dense_needs_the_weight() -> None:
    low = layer(dense=False)
    with pytest.raises(ValueError, match="dense weight"):
        low.rank = None
    assert target_parameters(low, [""])[1] == 80


def test_factors_that_do_not_fit_are_refused() -> None:
    # Checked by jaxtyping in tests: ranks of the two factors differ.
    with pytest.raises(Exception, match="right"):
        LowRankLinear(torch.zeros(3, 7), torch.zeros(4, 9))


def test_a_change_of_rank_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    low = layer(bias=False)
    factors = (low.left_t.dense(), low.right.dense())
    left, right = (factor.data_ptr() for factor in factors)
    used: list[Tensor] = []
    plain = nn.functional.linear
    monkeypatch.setattr(
        nn.functional, "linear", lambda x, w, *rest: (used.append(w), plain(x, w, *rest))[1]
    )
    for rank in (2, 5, 1, 4):
        low.rank = rank
        low(torch.randn(1, 9))
        assert [f.data_ptr() for f in (low.left_t.dense(), low.right.dense())] == [left, right]
        first, second = used[-2:]  # views of the first rows
        assert (first.data_ptr(), second.data_ptr()) == (right, left)
        assert (first.shape, second.T.shape) == ((rank, 9), (rank, 7))
        assert first.is_contiguous()
        assert second.T.is_contiguous()


def test_a_layer_holds_no_more_than_its_ranks() -> None:
    """Factors come as prefixes of larger ones."""
    larger = torch.randn(20, 7), torch.randn(20, 9)
    low = LowRankLinear(larger[0][:5], larger[1][:5])
    held = sum(p.untyped_storage().nbytes() for p in low.parameters())
    assert held == 4 * target_parameters(low, [""])[1]


def test_layers_hold_no_gradient_and_survive_the_state_dict() -> None:
    low = layer()
    assert not any(parameter.requires_grad for parameter in low.parameters())
    assert set(low.state_dict()) == {"left_t.values", "right.values", "bias", "weight.values"}


def svd_factors(model: nn.Module) -> Callable[[str, int], tuple[Tensor, Tensor]]:
    """Factors of the weights as they are now."""
    weights = {n: m.weight.data.clone() for n, m in model.named_modules() if type(m) is nn.Linear}

    def factors(name: str, rank: int) -> tuple[Tensor, Tensor]:
        found = Svd().decompose(weights[name], None)
        return found.left_t[:rank], found.right[:rank]

    return factors


def plan_of(targets: list[Target], ranks: dict[str, int | None], rate: float = 0.0) -> RankPlan:
    return RankPlan.of(rate, ranks, targets, FORM)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


IDS = torch.arange(40)[None]


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2", "tiny_gemma3"])
def test_full_rank_is_the_dense_model(shape: str, make_model: Callable[..., Any]) -> None:
    model = make_model(shape, "float64")
    before = logits(model, IDS)
    targets = find_targets(model)
    full = plan_of(targets, {t.name: min(t.d_out, t.d_in) for t in targets})
    compress(model, targets, [full], FORM, svd_factors(model))
    assert set(low_rank_layers(model)) == {t.name for t in targets}
    torch.testing.assert_close(logits(model, IDS), before, rtol=1e-9, atol=1e-9)


def test_a_plan_without_factors_leaves_the_model_untouched(make_model: Callable[..., Any]) -> None:
    model = make_model()
    before = logits(model, IDS)
    targets = find_targets(model)

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing is to be factored")

    compress(model, targets, [plan_of(targets, {t.name: None for t in targets})], FORM, refuse)
    assert not low_rank_layers(model)
    assert torch.equal(logits(model, IDS), before)


def test_a_dense_phase_is_the_dense_model_to_the_bit(make_model: Callable[..., Any]) -> None:
    model = make_model("tiny_qwen2")
    before = logits(model, IDS)
    targets = find_targets(model)
    dense = plan_of(targets, {t.name: None for t in targets})
    low = plan_of(targets, {t.name: 2 for t in targets})
    compress(model, targets, [dense, low], FORM, svd_factors(model))
    activate(model, low)
    assert not torch.allclose(logits(model, IDS), before, atol=1e-2)
    activate(model, dense)
    assert torch.equal(logits(model, IDS), before)


def test_low_rank_model_is_the_model_with_truncated_weights(make_model: Callable[..., Any]) -> None:
    """Qwen2: its biases stay on the output, so putting the products back gives the same logits."""
    model, other = make_model("tiny_qwen2", "float64"), make_model("tiny_qwen2", "float64")
    targets = find_targets(model)
    ranks: dict[str, int | None] = {t.name: 3 + i % 5 for i, t in enumerate(targets)}
    compress(model, targets, [plan_of(targets, ranks)], FORM, svd_factors(model))
    for target in targets:
        linear = other.get_submodule(target.name)
        left, values, right_t = np.linalg.svd(linear.weight.numpy(), full_matrices=False)
        rank = ranks[target.name]
        linear.weight.data = torch.tensor((left[:, :rank] * values[:rank]) @ right_t[:rank])
        low = model.get_submodule(target.name)
        assert (low.bias is None) == (linear.bias is None)
        assert (target.projection in ("q_proj", "k_proj", "v_proj")) == (low.bias is not None)
        if low.bias is not None:
            assert torch.equal(low.bias, linear.bias)
            assert float(low.bias.abs().max()) > 0
    torch.testing.assert_close(logits(model, IDS), logits(other, IDS), rtol=1e-8, atol=1e-8)


def test_measured_counts_are_the_planned_ones(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = find_targets(model)
    names = [t.name for t in targets]
    plans = make_plans(Uniform(), Progressive(), targets, FORM, Evidence(), 0.3)
    compress(model, targets, plans.all, FORM, svd_factors(model))
    check_counts(model, targets, plans, FORM)
    dense = sum(t.dense for t in targets)
    for plan in plans.all:
        activate(model, plan)
        by_hand = sum((plan.ranks[t.name] or 0) * (t.d_out + t.d_in) for t in targets)
        active, stored = target_parameters(model, names)
        assert active == by_hand
        assert plan.realised == pytest.approx(1 - by_hand / dense)
        # The first phase needs most.
        most = plans.phases[0][1].ranks
        assert stored == sum((most[t.name] or 0) * (t.d_out + t.d_in) for t in targets)
    assert stored_parameters(targets, plans.all, FORM) == stored
    whole = sum(p.numel() for p in model.parameters())
    embeddings = model.get_input_embeddings().weight.numel()
    norms = sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
    assert whole == stored + embeddings + norms  # the dense weights are gone


def test_wrong_counts_are_noticed(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = find_targets(model)
    plans = make_plans(Uniform(), Progressive(), targets, FORM, Evidence(), 0.3)
    compress(model, targets, plans.all, FORM, svd_factors(model))
    wrong = RankPlan(0.3, 0.25, plans.constant.ranks)
    with pytest.raises(AssertionError, match="planned"):
        check_counts(model, targets, Plans(wrong, plans.phases), FORM)
    name = targets[0].name
    layer = model.get_submodule(name)
    more = layer.left_t.dense()
    layer.left_t = FloatRows(torch.cat([more, more[:1]]))
    with pytest.raises(AssertionError, match="stored"):
        check_counts(model, targets, plans, FORM)


def test_the_head_and_tied_embeddings_are_as_before(make_model: Callable[..., Any]) -> None:
    model = make_model("tiny_llama_gqa")
    embedding = model.get_input_embeddings().weight.clone()
    targets = find_targets(model)
    compress(
        model, targets, [plan_of(targets, {t.name: 4 for t in targets})], FORM, svd_factors(model)
    )
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.lm_head.weight, embedding)


def test_factors_take_the_models_dtype(make_model: Callable[..., Any]) -> None:
    model = make_model("tiny_qwen2", "bfloat16")
    targets = find_targets(model)
    compress(
        model, targets, [plan_of(targets, {t.name: 4 for t in targets})], FORM, svd_factors(model)
    )
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert bool(torch.isfinite(logits(model, IDS)).all())
