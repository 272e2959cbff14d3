"""What the pipeline relies on, for every component of the groups that it calls."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.calibration.gradients import aggregated, per_sequence
from flrc.calibration.statistics import InputAccumulator
from flrc.config import components
from flrc.models.targets import Target, find_targets
from flrc.sensitivity.base import ScoreContext

TARGETS = [
    Target(f"model.layers.{b}.{n}", m, k, b, n, f"model.layers.{b}.{n}")
    for b in range(2)
    for n, m, k in (
        ("q_proj", 256, 256),
        ("k_proj", 96, 256),
        ("up_proj", 512, 256),
        ("down_proj", 256, 512),
    )
]
SCORES = {t.name: float(10 ** (i % 4)) for i, t in enumerate(TARGETS)}


@pytest.mark.parametrize("name", components("decomposition"))
@pytest.mark.parametrize(("m", "n"), [(10, 14), (14, 10), (8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decompositions_give_ordered_prefixes(
    name: str, m: int, n: int, dtype: torch.dtype
) -> None:
    decomposition: Any = components("decomposition")[name]()
    if not decomposition.COMPRESSES:
        return
    torch.manual_seed(0)
    weight = torch.randn(m, n).to(dtype)
    inputs = torch.randn(100, n, dtype=torch.float64) * torch.logspace(-1, 1, n)
    accumulator = InputAccumulator(n)
    accumulator.add(inputs)
    known = accumulator.result() if decomposition.CALIBRATED else None
    kept = weight.clone()
    factors = decomposition.decompose(weight, known)
    assert torch.equal(weight, kept)
    rank = factors.rank
    assert rank == min(m, n)
    assert factors.left_t.shape == (rank, m)
    assert factors.right.shape == (rank, n)
    assert factors.spectrum.shape == (rank,)
    for tensor in (factors.left_t, factors.right, factors.spectrum):
        assert tensor.dtype == torch.float64
        assert bool(torch.isfinite(tensor).all())
    assert bool((factors.spectrum[1:] <= factors.spectrum[:-1]).all())
    torch.testing.assert_close(factors.product(), weight.double(), rtol=1e-8, atol=1e-8)
    # Prefix property: the rest of a truncation is worth exactly what the next ranks add to it.
    again = decomposition.decompose(weight, known)
    for k in (1, rank // 2, rank - 1):
        assert torch.equal(again.product(k), factors.product(k))
        assert int(torch.linalg.matrix_rank(factors.product(k))) == k
        # The promised loss of rank k, in the decomposition's own metric, falls with k.
        assert float(factors.spectrum[k:].square().sum()) < float(
            factors.spectrum[k - 1 :].square().sum()
        )


def make_allocator(name: str, tmp_path: Path, rate: float) -> Any:
    if name != "replay":
        return components("allocator")[name]()
    uniform: Any = components("allocator")["uniform"]()
    form: Any = components("form")["two_factor"]()
    plan = uniform.allocate({}, uniform.budget(TARGETS, form, rate)).to_json()
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"constant": plan, "phases": []}))
    return components("allocator")[name](path=str(path))


@pytest.mark.parametrize("name", components("allocator"))
@pytest.mark.parametrize("form_name", components("form"))
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.5, 0.8])
def test_allocators_meet_the_budget(name: str, form_name: str, rate: float, tmp_path: Path) -> None:
    allocator, form = make_allocator(name, tmp_path, rate), components("form")[form_name]()
    allocator.check_reachable(TARGETS, form, rate)
    plan = allocator.allocate(SCORES, allocator.budget(TARGETS, form, rate))
    assert set(plan.ranks) == set(SCORES)
    dense = sum(t.dense for t in TARGETS)
    used = sum(
        t.dense if plan.ranks[t.name] is None else form.cost(plan.ranks[t.name], t) for t in TARGETS
    )
    assert plan.exact
    assert used <= (1 - rate) * dense * (1 + 1e-12)
    assert plan.realised == pytest.approx(1 - used / dense, abs=1e-12)
    assert plan.realised - rate <= max(form.cost(2, t) - form.cost(1, t) for t in TARGETS) / dense
    for t in TARGETS:
        rank = plan.ranks[t.name]
        assert rank is None or (1 <= rank < form.dense_rank(t) and form.cost(rank, t) < t.dense)


@pytest.mark.parametrize("name", components("schedule"))
@pytest.mark.parametrize("rate", [0.15, 0.2, 0.5])
def test_schedules_average_to_the_rate(name: str, rate: float) -> None:
    schedule: Any = components("schedule")[name]()
    phases = schedule.phases(rate)
    assert phases[0].begin == 0
    begins = [phase.begin for phase in phases]
    assert begins == sorted(set(begins))
    assert all(0 <= phase.rate < 1 and phase.begin < 1 for phase in phases)
    ends = [*begins[1:], 1.0]
    average = sum((end - p.begin) * p.rate for p, end in zip(phases, ends, strict=True))
    assert average == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize("name", components("sensitivity"))
def test_sensitivities_score_every_target(
    name: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    reductions = {"per_sequence": per_sequence, "aggregate": aggregated}
    asked = []

    def gradients(reduction: str) -> Any:
        asked.append(reduction)
        return reductions[reduction](model, targets, sequences[:1])

    sensitivity: Any = components("sensitivity")[name]()
    scores = sensitivity.score(
        ScoreContext(targets, lambda n: model.get_submodule(n).weight.data, gradients)
    )
    assert bool(asked) <= sensitivity.CALIBRATED  # what reads gradients says that it is calibrated
    if name == "none":
        assert scores == {}
        return
    assert set(scores) == {t.name for t in targets}
    assert all(type(s) is float and math.isfinite(s) and s >= 0 for s in scores.values())
    assert sum(scores.values()) > 0


@pytest.mark.parametrize("name", components("grouping"))
def test_groupings_partition_the_targets(name: str) -> None:
    grouping: Any = components("grouping")[name]()
    units = grouping.units(TARGETS)
    assert [t for unit in units for t in unit] == TARGETS


@pytest.mark.parametrize("name", components("form"))
def test_forms_cost_more_with_every_rank_and_build_what_they_cost(name: str) -> None:
    form: Any = components("form")[name]()
    target = Target("t", 6, 9, 0, "q_proj", "t")
    costs = [form.cost(rank, target) for rank in range(1, 7)]
    assert costs == sorted(set(costs))
    for rank in (1, 2, 3):
        layer = form.build(torch.randn(rank, 6), torch.randn(rank, 9), None, None)
        assert sum(p.numel() for p in layer.parameters()) == form.cost(rank, target)
        assert layer(torch.randn(2, 5, 9)).shape == (2, 5, 6)


@pytest.mark.parametrize("name", components("quantization"))
@pytest.mark.parametrize("runtime", components("runtime"))
def test_what_follows_surgery_leaves_a_model_that_runs(
    name: str, runtime: str, make_model: Callable[..., Any]
) -> None:
    model = make_model()
    components("quantization")[name]().quantize(model)  # type: ignore[attr-defined]
    components("runtime")[runtime]().prepare(model)  # type: ignore[attr-defined]
    assert not model.training
    with torch.no_grad():
        assert bool(torch.isfinite(model(input_ids=torch.arange(6)[None]).logits).all())


@pytest.mark.parametrize("name", components("calibration"))
def test_calibrations_draw_the_same_again(name: str, data: Any, tokenizer: Any) -> None:
    calibration: Any = components("calibration")[name](samples=3, length=50)
    if hasattr(calibration, "dialogues"):
        calibration.dialogues = 4
    calibration.check_data(data)
    first, again, other = (calibration.sequences(data, tokenizer, s) for s in (0, 0, 1))
    assert len(first) == 3 + getattr(calibration, "dialogues", 0)
    assert all(s.dtype == torch.int64 and s.ndim == 1 and len(s) > 1 for s in first)
    assert [len(s) for s in first[:3]] == [50] * 3
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first[:3], other[:3], strict=True))
    assert not any("test" in split for _, split in calibration.splits())
    assert set(calibration.inputs(data)["data"]) == {f"{d}/{s}" for d, s in calibration.splits()}


@pytest.mark.parametrize("name", components("evaluation"))
def test_evaluations_are_made_of_named_parts(name: str) -> None:
    evaluation: Any = components("evaluation")[name]()
    parts = evaluation.parts()
    assert parts
    assert len(set(parts)) == len(parts)
    assert evaluation.summarise([]) == []
