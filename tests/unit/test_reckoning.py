"""Counted demands of stages against operations that torch counts while the real thing runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import compose, make_model, write_data
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flrc.calibration import demands
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.output_statistics import joint_statistics, output_statistics
from flrc.calibration.statistics import InputStatistics, OutputStatistics
from flrc.calibration.weight_gradients import aggregated, per_sequence
from flrc.core.demand import Demand, Rates, total
from flrc.decomposition.base import Decomposition
from flrc.decomposition.demands import root, root_of_few, svd
from flrc.decomposition.kfac import Kfac
from flrc.decomposition.svd import Svd
from flrc.decomposition.whitened import Whitened
from flrc.evaluation.reply_generation import generate_replies
from flrc.models.anatomy.model_shape import ModelShape
from flrc.models.anatomy.targets import find_targets
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.models.sources.loading import model_shell
from flrc.running.dry_run import RunEstimate, StageEstimate, memory
from flrc.running.machine import measured_rates
from flrc.running.preflight import read_sequences
from flrc.running.reckoning import Reckoning, uniform_rank
from flrc.runtime.decoding import Decoder
from flrc.schedule.constant import Constant
from flrc.search.candidates import grid, rounds
from flrc.search.halving import Halving
from flrc.search.tournament import Trial, tournament
from flrc.sensitivity.block_influence import BlockInfluence
from flrc.sensitivity.fisher import Fisher
from flrc.sweeps.dry_run_report import in_short, shared
from flrc.sweeps.job_log import JobEntry

LENGTHS = [24, 17, 24]


def counted(run: Callable[[], object]) -> int:
    """Operations of all matrix products while this runs, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def sequences() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (length,), generator=generator) for length in LENGTHS]


@pytest.fixture(params=["tiny_llama", "tiny_qwen3", "tiny_gemma"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    found = make_model(request.param)
    found.set_attn_implementation("eager")  # torch counts its two products
    return found


def shape_of(model: nn.Module) -> ModelShape:
    return ModelShape.of(model, find_targets(model))  # type: ignore[arg-type]


ROTARY = 0.01
"""Share of a pass that tables of angles take in a model this small; they are not counted."""


def test_a_forward_pass(model: nn.Module) -> None:
    def run() -> None:
        for ids in sequences():
            model(input_ids=ids[None], use_cache=False)

    expected = shape_of(model).forward(LENGTHS).model
    assert counted(run) == pytest.approx(expected, rel=ROTARY)


@pytest.mark.parametrize("recomputed", [False, True])
def test_statistics_of_gradients(model: nn.Module, recomputed: bool) -> None:
    targets, settings = find_targets(model), Kfac(gradient_tokens=None).gradients()
    memory = 4.0 * sum(t.d_out**2 for t in targets if t.block == 0) * (1 if recomputed else 100)
    shape = shape_of(model)
    expected = demands.of_outputs(shape, LENGTHS, memory=memory)
    found = counted(lambda: list(output_statistics(model, targets, sequences(), settings, memory)))
    assert found == pytest.approx(expected.model, rel=ROTARY)  # sums in place are not counted
    assert expected.single == 2 * sum(LENGTHS) * sum(t.d_out**2 for t in targets)


def test_statistics_of_inputs(model: nn.Module) -> None:
    expected, targets = demands.of_inputs(shape_of(model), LENGTHS), find_targets(model)
    found = counted(lambda: list(input_statistics(model, targets, sequences())))
    assert found == pytest.approx(expected.model + expected.single, rel=ROTARY)


def test_statistics_of_both(model: nn.Module) -> None:
    settings = Kfac(gradient_tokens=0.2).gradients()
    expected, targets = demands.of_both(shape_of(model), LENGTHS, read=1), find_targets(model)
    found = counted(lambda: list(joint_statistics(model, targets, sequences(), settings)))
    outputs = 2 * LENGTHS[0] * sum(t.d_out**2 for t in targets)  # in place: not counted
    assert found == pytest.approx(expected.model + expected.single - outputs, rel=ROTARY)


def test_gradients_of_weights(model: nn.Module) -> None:
    shape, targets = shape_of(model), find_targets(model)
    expected = Fisher().demand(shape, LENGTHS, fits=True).model
    found = counted(lambda: per_sequence(model, targets, sequences()))
    assert found == pytest.approx(expected, rel=ROTARY)
    expected = Fisher(reduction="aggregate").demand(shape, LENGTHS, fits=True).model
    found = counted(lambda: aggregated(model, targets, sequences()))
    assert found == pytest.approx(expected, rel=ROTARY)


def test_block_influence_has_no_head(model: nn.Module) -> None:
    shape = shape_of(model)
    whole, found = shape.forward(LENGTHS), BlockInfluence().demand(shape, LENGTHS, fits=True)
    assert whole.model - found.model == 2 * sum(LENGTHS) * 260 * 48


def test_generation(model: nn.Module) -> None:
    model.generation_config.eos_token_id = None
    prompts = [[1] * length for length in (9, 5, 12)]
    decoder = Decoder(model, byte_tokenizer(), None)
    decoder.end_tokens = list  # type: ignore[method-assign]  # no reply ends early
    expected = shape_of(model).generation([9, 5, 12], new_tokens=6, batch=2)
    found = counted(lambda: generate_replies(decoder, prompts, batch_size=2, max_new_tokens=6))
    assert found == pytest.approx(expected.model, rel=ROTARY)


@pytest.mark.parametrize("kind", [Svd, Whitened, Kfac])
@pytest.mark.parametrize("size", [(40, 24), (24, 40)])
def test_products_of_a_decomposition(kind: type[Decomposition], size: tuple[int, int]) -> None:
    d_out, d_in = size
    tokens = 500
    x, g = torch.randn(tokens, d_in).double(), torch.randn(tokens, d_out).double()
    inputs = InputStatistics(x.T @ x / tokens, x.abs().mean(0), tokens)
    outputs = OutputStatistics(g.T @ g / tokens, tokens)
    weight = torch.randn(d_out, d_in)
    found = counted(lambda: kind().decompose(weight, inputs, outputs))
    sides = [d_in] * kind.CALIBRATED + [d_out] * kind.TWO_SIDED
    roots = sum(side**3 * 4 / 3 for side in sides)  # no products, for torch
    assert found == pytest.approx(kind().demand(d_out, d_in, tokens).double - roots)


def test_products_of_few_tokens() -> None:
    x = torch.randn(10, 60).double()
    inputs = InputStatistics(x.T @ x / 10, x.abs().mean(0), 10)
    for rows in (8, 20):  # with 20, the product has no full rank
        found = counted(lambda rows=rows: Whitened().decompose(torch.randn(rows, 60), inputs))
        assert found == Whitened().demand(rows, 60, 10).double


def test_factorisations_by_hand() -> None:
    assert svd(20, 10).factorised == 9 * 10**3
    assert root(30).double == pytest.approx(30**3 * 4 / 3)
    assert root_of_few(100, 4).factorised == 4 * 100 * 20**2 + 9 * 20**3
    assert Kfac().demand(20, 10, 5).factorised == 9 * 10**3


def test_demands_add_up() -> None:
    one, other = Demand(1, 2, 3, 4, 5, 6, held=7), Demand(model=1, held=9)
    assert one + other == Demand(2, 2, 3, 4, 5, 6, held=9)
    assert one * 2 == Demand(2, 4, 6, 8, 10, 12, held=7)
    assert one.holding(1).held == 8
    assert total([one, one]).operations == 20
    assert one.seconds(Rates(1, 2, 3, 4, 5, 6)) == 6


def test_trials_of_a_search_are_as_many_as_it_runs() -> None:
    """No trial fails, and the winner's rates change once: the most that can happen."""
    search, items = Halving(samples=8, rounds=3, switches=[4, 8], drops=[0.1, 0.2]), []

    def trial(phases: object, numbers: range) -> Trial:
        items.append(len(numbers))
        return Trial([1.0] * len(numbers), [40] * len(numbers), 0.2, 1.0)

    candidates = grid(search.switches, search.drops, 1, with_constant=True)
    tournament(candidates, 0.2, rounds(8, 3), trial)
    planned = search.generations(1)
    # The constant schedule is tried twice at first; its replies are cached.
    assert sum(planned) - planned[-1] == sum(items) - items[0]
    assert planned[-1] == 8


def reckoned(place: Path, *overrides: str) -> Reckoning:
    folder = (f"data.root={write_data(place / 'data')}", "data=folder", "model=random")
    config = compose(*folder, *overrides)
    shell = model_shell(config.model)
    targets = config.grouping.targets(find_targets(shell))
    reads = read_sequences(config, config.model.tokenizer(), config.searches)
    return Reckoning(config, ModelShape.of(shell, targets), shell.dtype, reads)


def test_a_weightless_model_is_enough(tmp_path: Path) -> None:
    """The whole run by hand: plain SVD, one window of 64 tokens, nothing calibrated."""
    reckoning = reckoned(
        tmp_path, "method=svd", "evaluation=[perplexity]", "evaluation.perplexity.windows=1",
        "evaluation.perplexity.length=64", "evaluation.perplexity.datasets=[wikitext2]",
    )  # fmt: skip
    stages = {stage.name: stage.demand for stage in reckoning.stages()}
    assert list(stages)[:3] == ["load", "decomposition", "surgery"]
    # tiny_llama_gqa: width 48, 96 inside, 3 blocks, 4 heads of 12 with 2 for keys and values.
    assert stages["decomposition"].factorised == 3 * 9 * (5 * 48**3 + 2 * 24**3)
    block = 2 * 48 * 48 + 2 * 24 * 48 + 3 * 48 * 96
    kept = 2 * 64 * (3 * (1 - reckoning.config.rate) * block + 260 * 48)
    (window,) = [demand for name, demand in stages.items() if name.startswith("perplexity")]
    assert window.model == pytest.approx(kept + 3 * 4 * 64**2 * 48)
    assert reckoning.disk == 4 * 3 * (2 * 48 * 97 + 2 * 24 * 73 + 3 * 48 * 145)


def test_ranks_are_the_uniform_ones(tmp_path: Path) -> None:
    reckoning = reckoned(tmp_path, "method=svd")
    for target in reckoning.shape.targets:
        rank = uniform_rank(reckoning.config.form, target, 0.8)
        cost = reckoning.config.form.cost
        assert cost(rank, target) <= 0.8 * target.dense < cost(rank + 1, target)


def test_a_dense_run_compresses_nothing(tmp_path: Path) -> None:
    stages = reckoned(tmp_path, "method=dense", "evaluation=[perplexity]").stages()
    assert {stage.name.split()[0] for stage in stages} == {"load", "perplexity"}
    assert not any(stage.after_surgery for stage in stages)
    assert Constant().DIRECTION == 0


def test_memory_of_a_stage_on_the_host_and_on_the_device(tmp_path: Path) -> None:
    few = ("evaluation=[perplexity]", "calibration.dialogues=8", "rate=0.25")
    reckoning = reckoned(tmp_path, "method=svdllm", *few)
    shape = reckoning.shape
    stages = {stage.name: stage for stage in reckoning.stages()}
    statistics, last = stages["statistics"], list(stages.values())[-1]
    held = statistics.demand.held
    # Gram matrices of one block: three of 48 and one of 96 channels, in float64.
    assert held > 8 * (3 * 48**2 + 96**2)
    assert memory(reckoning, statistics, 10.0, cuda=False) == (10 + shape.bytes + held, None)
    assert memory(reckoning, statistics, 10.0, cuda=True) == (10 + shape.bytes, shape.bytes + held)
    removed = 0.25 * sum(target.dense for target in shape.targets) * 4
    host, device = memory(reckoning, last, 10.0, cuda=False)
    assert host == pytest.approx(10 + shape.bytes - removed + last.demand.held, abs=1)
    waiting = replace(reckoning, config=replace(reckoning.config, placement="host"))
    host, device = memory(waiting, statistics, 10.0, cuda=True)
    assert device is not None
    assert host == 10 + shape.bytes
    outside = shape.bytes - sum(block.weights for block in shape.blocks) * 4
    assert device == outside + 2 * shape.block_bytes + held


def estimate(*results: str, cached: bool = False) -> RunEstimate:
    names = ["statistics", "decomposition", "perplexity x"]
    stages = [
        StageEstimate(
            name, 1e12, 60.0, 2e9, None, cached and name == "decomposition",
            list(results) if name != "perplexity x" else [],
        )
        for name in names
    ]  # fmt: skip
    return RunEstimate(stages, 10**9, dict.fromkeys(("model", "moved"), 1e9), 2)


def test_jobs_share_what_they_compute_once() -> None:
    paid: set[str] = set()
    assert "3 TFLOP, about 3 min" in in_short(shared(estimate("a"), paid).stages)
    assert "1 TFLOP, about 1 min" in in_short(shared(estimate("a"), paid).stages)
    assert "3 TFLOP, about 3 min" in in_short(shared(estimate("b"), paid).stages)


def test_an_estimate_passes_through_the_job_log() -> None:
    made = estimate("a")
    entry = JobEntry.from_line(JobEntry("would run", "x", estimate=made.to_json()).to_line())
    assert entry.estimate is not None
    assert RunEstimate.from_json(entry.estimate) == made


def test_a_machine_is_measured() -> None:
    rates = measured_rates(torch.device("cpu"), torch.float32, torch.get_num_threads())
    assert rates.model == rates.single
    assert all(rate > 1 for rate in vars(rates).values())
    assert 1e8 < rates.single < 1e14


def test_a_deferred_search_is_not_counted(tmp_path: Path) -> None:
    few = ("method=plrd", "evaluation=[perplexity]", "calibration.dialogues=8")
    reckoning = reckoned(tmp_path, *few, "search.samples=4")
    assert "schedule" in [stage.name for stage in reckoning.stages()]
    reads = {name: read for name, read in reckoning.reads.items() if name != "search"}
    deferred = replace(reckoning, reads=reads).stages()
    assert "schedule" not in [stage.name for stage in deferred]
