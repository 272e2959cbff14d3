"""The refinement against least squares and against models that are really compressed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import compose
from torch import Tensor

from flrc.calibration.dense_model import DenseModel
from flrc.calibration.output_statistics import output_statistics
from flrc.calibration.statistics import InputStatistics
from flrc.core.cache import StageCache
from flrc.decomposition.base import Decomposition
from flrc.decomposition.kfac import Kfac
from flrc.decomposition.statistics import Statistics
from flrc.decomposition.svd import Svd
from flrc.decomposition.whitened import Whitened
from flrc.errors import UserError
from flrc.form.pivoted import Pivoted
from flrc.grouping.separate import Separate
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.pipeline import run
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target
from flrc.refine.factor_store import refined_factors
from flrc.refine.propagated import Propagated
from flrc.refine.weight_correction import corrected_weight
from flrc.running.identity import identity, run_id

STRENGTH, PRIOR = 0.6, 0.1


def test_strength_one_is_least_squares() -> None:
    """Without damping, against numpy's solver on the tokens themselves."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 6))
    seen = x @ draw.normal(size=(6, 6)) * 0.3 + x + 0.1 * draw.normal(size=x.shape)
    weight = draw.normal(size=(4, 6))
    best = np.linalg.lstsq(seen, x @ weight.T, rcond=None)[0].T
    cross, gram = torch.tensor(x.T @ seen) / 200, torch.tensor(seen.T @ seen) / 200
    for strength in (0.0, 0.4, 1.0):
        found = corrected_weight(torch.tensor(weight), cross, gram, strength, 1e-13)
        expected = (1 - strength) * weight + strength * best
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_damping_by_hand() -> None:
    """One output, two inputs: C' = diag(3, 1), M = diag(2, 1), damping 0.5 adds 1."""
    weight = torch.tensor([[4.0, 5.0]])
    cross, gram = torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([3.0, 1.0]))
    found = corrected_weight(weight, cross, gram, 0.5, 0.5)
    # 4 + 0.5 * 4 * (2 - 3) / (3 + 1), and nothing to correct in the second input
    torch.testing.assert_close(found, torch.tensor([[3.5, 5.0]], dtype=torch.float64))


def plan_of(targets: list[Target], dense: tuple[str, ...] = ()) -> RankPlan:
    ranks: dict[str, int | None] = {
        t.name: None if t.name.endswith(dense or ("-",)) else min(t.d_out, t.d_in) // 2
        for t in targets
    }
    return RankPlan.of(0.2, ranks, targets, Pivoted())


def refined(
    model: Any,
    targets: list[Target],
    plan: RankPlan,
    decomposition: Decomposition,
    sequences: list[Tensor],
    refinement: Propagated,
) -> dict[str, Any]:
    statistics = Statistics(decomposition, DenseModel(model, targets, sequences))
    found: dict[str, Any] = {}
    for _, factors in refinement.refine(statistics, plan):
        found |= factors
    return found


def inputs_of(model: Any, name: str, sequences: list[Tensor]) -> np.ndarray[Any, Any]:
    """``(tokens, d_in)`` of a layer in a plain forward pass of the whole model."""
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda _module, arguments: seen.append(arguments[0][0].double())
    )
    for sequence in sequences:
        model(input_ids=sequence[None], use_cache=False)
    hook.remove()
    return torch.cat(seen).numpy()


def write(model: Any, target: Target, product: Tensor) -> None:
    begin = 0
    for layer in target.layers:
        weight = model.get_submodule(layer.name).weight.data
        weight.copy_(product[begin : begin + layer.d_out])
        begin += layer.d_out


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
@pytest.mark.parametrize("grouping", [Separate(), Shared()])
@pytest.mark.parametrize("decomposition", [Whitened(), Kfac(), Svd()])
@pytest.mark.parametrize("shorter", [0, 5], ids=["", "of_several_lengths"])
def test_each_layer_sees_the_compressed_ones_before_it(
    shape: str,
    grouping: Any,
    decomposition: Decomposition,
    shorter: int,
    make_model: Callable[..., Any],
    sequences: list[Tensor],
) -> None:
    """Against whole models whose earlier layers really hold the products."""
    sequences = [sequences[0][shorter:], *sequences[1:]]
    model = make_model(shape, dtype="float64")
    targets = grouping.targets(find_targets(model))
    plan = plan_of(targets, dense=("0.mlp.down_proj", "1.self_attn.q_proj"))
    refinement = Propagated(strength=STRENGTH, prior=PRIOR, samples=2)
    before = copy.deepcopy(model.state_dict())
    found = refined(model, targets, plan, decomposition, sequences, refinement)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(found) == {t.name for t in targets if plan.ranks[t.name] is not None}

    gradients = {}
    if decomposition.TWO_SIDED:
        settings = decomposition.gradients()
        for _, known in output_statistics(model, targets, sequences, settings, 1e9):
            gradients |= known
    other = copy.deepcopy(model)
    leaders = list(dict.fromkeys(t.input_group for t in targets))
    for leader in leaders:
        dense = inputs_of(model, leader, sequences[:2])
        seen = inputs_of(other, leader, sequences[:2])
        gram, cross = seen.T @ seen / len(seen), dense.T @ seen / len(seen)
        ridge = PRIOR * len(gram) / len(seen) * gram.diagonal().mean() * np.eye(len(gram))
        for target in (t for t in targets if t.input_group == leader):
            rank = plan.ranks[target.name]
            if rank is None:
                continue
            weight = target.weight(model).numpy()
            moved = weight @ (
                (1 - STRENGTH) * np.eye(len(gram))
                + STRENGTH * (cross + ridge) @ np.linalg.inv(gram + ridge)
            )
            # The metric: all sequences through the dense model, and two through the compressed one.
            both = np.concatenate([inputs_of(model, leader, sequences), seen])
            statistics = InputStatistics(
                torch.tensor(both.T @ both / len(both)),
                torch.tensor(abs(both).mean(0)),
                len(both),
            )
            expected = decomposition.decompose(
                torch.tensor(moved),
                statistics if decomposition.CALIBRATED else None,
                gradients.get(target.name),
            ).product(rank)
            factors = found[target.name]
            assert factors.left_t.shape == (rank, target.d_out)
            assert factors.right.shape == (rank, target.d_in)
            torch.testing.assert_close(factors.product(), expected, rtol=1e-6, atol=1e-8)
            write(other, target, expected)


def test_outputs_come_nearer_to_the_dense_ones(
    make_model: Callable[..., Any], sequences: list[Tensor]
) -> None:
    """On the sequences that it is fitted to, the last hidden states of a half-rank model."""
    model = make_model("tiny_llama_gqa", dtype="float64")
    targets = find_targets(model)
    plan = plan_of(targets)
    errors = {}
    for strength in (0.0, 0.5):
        refinement = Propagated(strength=strength, samples=len(sequences))
        found = refined(model, targets, plan, Whitened(), sequences, refinement)
        other = copy.deepcopy(model)
        for target in targets:
            write(other, target, found[target.name].product())
        errors[strength] = sum(
            float((a - b).square().sum())
            for a, b in (
                (
                    model.model(input_ids=ids[None], use_cache=False).last_hidden_state,
                    other.model(input_ids=ids[None], use_cache=False).last_hidden_state,
                )
                for ids in sequences
            )
        )
    assert errors[0.5] < 0.9 * errors[0.0], errors


def test_only_for_schedules_of_one_plan() -> None:
    for schedule in ("progressive", "increasing"):
        with pytest.raises(UserError, match="refine=propagated fits factors to one plan") as error:
            compose("method=flrc", "refine=propagated", f"schedule={schedule}")
        assert "refine=none" in str(error.value)
    assert compose("method=svdllm", "refine=propagated").refine.samples == 12


def test_the_id_names_it_only_where_it_does_something() -> None:
    """Runs from before refinement existed keep their ids."""
    plain, refined_ = compose("method=svdllm"), compose("method=svdllm", "refine=propagated")
    assert "refine" not in identity(plain)
    assert identity(refined_)["refine"]["strength"] == 0.3
    assert run_id(refined_) != run_id(compose("method=svdllm", "refine=propagated", "seed=1"))
    dense = compose("method=dense", "refine=propagated")
    assert identity(dense) == identity(compose("method=dense"))


def test_a_plan_of_other_ranks_is_refused(
    make_model: Callable[..., Any], sequences: list[Tensor], tmp_path: Path
) -> None:
    model = make_model()
    targets = find_targets(model)
    plan = plan_of(targets)
    statistics = Statistics(Whitened(), DenseModel(model, targets, sequences))
    entry = StageCache(tmp_path, 10**9).entry("refined", {})
    entry.path.mkdir(parents=True)
    stored = refined_factors(Propagated(), statistics, plan, entry)
    name = targets[0].name
    rank = plan.ranks[name]
    assert rank is not None
    left_t, right = stored.factors(name, rank)
    assert left_t.dtype == torch.float32
    assert (len(left_t), len(right)) == (rank, rank)
    with pytest.raises(ValueError, match=f"refined for rank {rank}, not for {rank - 1}"):
        stored.factors(name, rank - 1)


def test_a_run_keeps_its_refined_factors(
    run_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second evaluation of the same plan refines nothing again; another rate does."""
    overrides = ["method=svdllm", "refine=propagated", "evaluation=[perplexity]"]
    first = run(run_config(*overrides, "rate=0.3"))
    assert first.run["status"] == "ok", first.run
    stages = {stage["name"]: stage for stage in first.meta["stages"]}
    assert not stages["refinement"]["cached"]
    again = run(run_config(*overrides, "rate=0.3", "force=true"))
    stages = {stage["name"]: stage for stage in again.meta["stages"]}
    assert stages["refinement"]["cached"]
    assert again.results["measurements"] == first.results["measurements"]
    plain = run(run_config("method=svdllm", "evaluation=[perplexity]", "rate=0.3"))
    assert plain.results["parameters"] == first.results["parameters"]
    assert plain.results["measurements"] != first.results["measurements"]

    def never(*_: Any) -> Any:
        raise AssertionError("refined again")

    monkeypatch.setattr("flrc.refine.propagated.Propagated.refine", never)
    other = run(run_config(*overrides, "rate=0.4"))
    assert other.run["status"] == "failed"
    assert other.run["stage"] == "refinement"
