"""What the pipeline relies on, for every component of the groups that it calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.calibration.dense_model import DenseModel
from flrc.calibration.statistics import InputAccumulator, OutputAccumulator
from flrc.config import components
from flrc.decomposition.dead_layers import decompose_target
from flrc.decomposition.statistics import Statistics
from flrc.decomposition.whitened import Whitened
from flrc.errors import UserError
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.targets import find_targets
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target


@pytest.mark.parametrize("name", components("decomposition"))
@pytest.mark.parametrize("dead", ["weight", "inputs", "outputs", "tokens"])
def test_decompositions_of_a_dead_layer(name: str, dead: str) -> None:
    """Reported, kept, finite, exact at full rank; only what is read can be found dead."""
    decomposition: Any = components("decomposition")[name]()
    if not decomposition.COMPRESSES:
        return
    generator = torch.Generator().manual_seed(0)
    m, n = 6, 9
    weight, x, g = (
        torch.randn(shape, generator=generator) * (dead != what)
        for what, shape in (("weight", (m, n)), ("inputs", (50, n)), ("outputs", (50, m)))
    )
    inputs, outputs = InputAccumulator(n), OutputAccumulator(m)
    if dead != "tokens":
        inputs.add(x)
        outputs.add(g)
    factors = decompose_target(
        decomposition,
        Target("t", m, n, 0, "q_proj", "t"),
        weight,
        inputs.result() if decomposition.CALIBRATED else None,
        outputs.result() if decomposition.TWO_SIDED else None,
    )
    read = {
        "weight": True,
        "inputs": decomposition.CALIBRATED,
        "tokens": decomposition.CALIBRATED,
        "outputs": decomposition.TWO_SIDED,
    }[dead]
    kept = {"weight": "zero", "inputs": "zero", "outputs": "dense", "tokens": "dense"}[dead]
    assert factors.kept == (kept if read else None)
    assert bool(factors.rescue) == read
    assert bool(factors.spectrum.any()) == (factors.kept != "zero")
    for tensor in (factors.left_t, factors.right, factors.spectrum):
        assert bool(torch.isfinite(tensor).all())
    torch.testing.assert_close(factors.product(), weight.double(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", components("decomposition"))
@pytest.mark.parametrize(("x_size", "g_size"), [(1e-30, 1.0), (1.0, 1e-30), (1e20, 1e-20)])
def test_decompositions_do_not_depend_on_the_size_of_what_they_read(
    name: str, x_size: float, g_size: float
) -> None:
    decomposition: Any = components("decomposition")[name]()
    if not decomposition.COMPRESSES or name == "activation_scaled":  # whose floor has a size
        return
    generator = torch.Generator().manual_seed(0)
    weight, x, g = (torch.randn(shape, generator=generator) for shape in ((6, 9), (50, 9), (50, 6)))
    products = []
    for sizes in ((1.0, 1.0), (x_size, g_size)):
        inputs, outputs = InputAccumulator(9), OutputAccumulator(6)
        inputs.add(x * sizes[0])
        outputs.add(g * sizes[1])
        factors = decompose_target(
            decomposition,
            Target("t", 6, 9, 0, "q_proj", "t"),
            weight,
            inputs.result() if decomposition.CALIBRATED else None,
            outputs.result() if decomposition.TWO_SIDED else None,
        )
        assert factors.kept is None
        products.append(factors.to(torch.float32).product(3))
    torch.testing.assert_close(products[1], products[0], rtol=1e-3, atol=1e-4)


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
    gradients = OutputAccumulator(m)
    gradients.add(torch.randn(100, m, dtype=torch.float64) * torch.logspace(1, -1, m))
    outputs = gradients.result() if decomposition.TWO_SIDED else None
    kept = weight.clone()
    factors = decomposition.decompose(weight, known, outputs)
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
    # Prefix property: a truncation leaves out exactly what the next ranks add.
    again = decomposition.decompose(weight, known, outputs)
    for k in (1, rank // 2, rank - 1):
        assert torch.equal(again.product(k), factors.product(k))
        assert int(torch.linalg.matrix_rank(factors.product(k))) == k
        # The promised loss of rank k, in the decomposition's own metric, falls with k.
        assert float(factors.spectrum[k:].square().sum()) < float(
            factors.spectrum[k - 1 :].square().sum()
        )


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


@pytest.mark.parametrize("name", components("form"))
def test_forms_cost_more_with_every_rank_and_build_what_they_cost(name: str) -> None:
    form: Any = components("form")[name]()
    target = Target("t", 6, 9, 0, "q_proj", "t")
    costs = [form.cost(rank, target) for rank in range(1, 7)]
    assert costs == sorted(set(costs))
    assert form.cost(form.dense_rank(target), target) >= target.dense
    for widths in ((6,), (1, 3, 2)):  # a layer by itself, and a group that shares its input
        linears = [torch.nn.Linear(9, width).requires_grad_(False) for width in widths]
        biases = torch.cat([linear.bias for linear in linears])
        x = torch.randn(2, 5, 9)
        for rank in (1, 2, 3, 6):
            left_t, right = torch.randn(rank, 6), torch.randn(rank, 9)
            layers = torch.nn.ModuleList(form.build(left_t, right, linears, False))
            assert sum(p.numel() for p in layers.parameters()) == form.cost(rank, target) + 6
            outputs = [layer(x) for layer in layers]
            assert [output.shape for output in outputs] == [(2, 5, width) for width in widths]
            expected = x @ right.T @ left_t + biases
            torch.testing.assert_close(torch.cat(outputs, -1), expected, rtol=1e-4, atol=1e-4)
            # With the dense weights kept, layers can be dense again, to the bit.
            kept = form.build(left_t, right, linears, True)
            for layer, linear in zip(kept, linears, strict=True):
                assert layer.rank == rank
                layer.rank = None
                assert torch.equal(layer(x), linear(x))
                layer.rank = rank
                with pytest.raises(ValueError, match="rank"):
                    layer.rank = rank + 1
                if form.NESTED and rank > 1:
                    layer.rank = rank - 1


@pytest.mark.parametrize("name", components("refine"))
def test_refinements_keep_the_plan_and_the_model(
    name: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    refinement: Any = components("refine")[name]()
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    targets = find_targets(model)
    ranks: dict[str, int | None] = {t.name: 1 + k % 5 for k, t in enumerate(targets)}
    ranks[targets[3].name] = None
    plan = RankPlan.of(0.5, ranks, targets, TwoFactor())
    statistics = Statistics(Whitened(), DenseModel(model, targets, sequences))
    found: dict[str, Any] = {}
    for block, factors in refinement.refine(statistics, plan):
        assert all(t.block == block for t in targets if t.name in factors)
        found |= factors
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if not refinement.REFINES:
        assert not found
        return
    assert set(found) == {name for name, rank in ranks.items() if rank is not None}
    for target in targets:
        if ranks[target.name] is not None:
            factors = found[target.name]
            assert factors.rank == ranks[target.name]
            assert factors.left_t.shape == (factors.rank, target.d_out)
            assert factors.right.shape == (factors.rank, target.d_in)
            assert factors.left_t.dtype == factors.right.dtype == torch.float64


@pytest.mark.parametrize("name", components("quantization"))
@pytest.mark.parametrize("runtime", components("runtime"))
def test_what_follows_surgery_leaves_a_model_that_runs(
    name: str, runtime: str, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_model()
    targets, size = find_targets(model), sum(p.nbytes for p in model.parameters())
    components("quantization")[name]().quantize(model, targets)  # type: ignore[attr-defined]
    how: Any = components("runtime")[runtime]()
    if hasattr(how, "budget"):  # of a tiny model most is embeddings
        how.budget, how.folder = "0.5", str(tmp_path)
    try:
        how.check_device(model.device)
    except UserError as refused:
        pytest.skip(str(refused).splitlines()[0])
    with torch.no_grad(), how.running(model, targets, size):
        assert not model.training
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
