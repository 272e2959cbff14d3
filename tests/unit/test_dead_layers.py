"""Layers without usable statistics: named, kept, listed, and the run continues."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_plans import make_plans
from tiny import compose
from torch import nn

import flrc
from flrc.allocator.dead_targets import dead_ranks, dead_targets
from flrc.allocator.evidence import Evidence
from flrc.allocator.planner import Planner
from flrc.allocator.replay import Replay
from flrc.allocator.uniform import Uniform
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.statistics import InputAccumulator, InputStatistics
from flrc.calibration.statistics_store import stored
from flrc.core import jsonfile
from flrc.decomposition.dead_layers import why_dead
from flrc.errors import UserError
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import check_counts, compress
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.finite_weights import check_finite
from flrc.models.anatomy.targets import find_targets
from flrc.models.checkpoints.dense_export import dense_weight
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.int8_rows import Int8Rows
from flrc.models.layers.sizes import target_parameters
from flrc.pipeline import run
from flrc.plans.target import Target
from flrc.runtime.offload import Offload
from flrc.runtime.weight_streaming import streamers
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive

IDS = torch.arange(3, 30)[None]
LAYER = "model.layers.1."


def silence(model: Any, *names: str) -> None:
    for name in names:
        model.get_submodule(name).weight.data.zero_()


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [
        f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}", "search=none",
    ]  # fmt: skip


def compressed(
    model: Any, tokenizer: Any, words: list[str], *more: str, **given: Any
) -> tuple[Any, Any]:
    sequences = list(torch.randint(0, 250, (3, 40), generator=torch.Generator().manual_seed(2)))
    given = {"method": "svdllm", "rate": 0.3, **given}
    return flrc.compress(
        model, tokenizer, calibration=sequences, overrides=[*words, *more], **given
    )


def told(record: Any) -> dict[str, str]:
    return {row["target"]: row["what"] for row in record.results["rescues"]}


def ranks(record: Any) -> dict[str, int | None]:
    return {row["target"]: row["rank"] for row in record.results["layers"]}


@pytest.mark.parametrize(
    ("method", "more", "dtype"),
    [
        ("svdllm", ("quantization=int8",), "float32"),
        ("skipcat", ("grouping=separate",), "bfloat16"),
        ("flrc", (), "float32"),
        ("flrc", (), "bfloat16"),
        ("kfac", ("refine=propagated",), "float32"),
        ("kfac_skip", ("quantization=int8",), "bfloat16"),
        ("svdllm_v2", (), "float32"),
        ("drank", (), "float32"),
    ],
)
def test_a_zero_weight_and_the_zeros_it_hands_on(
    method: str, more: tuple[str, ...], dtype: str,
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    model = make_model("tiny_qwen2", dtype)
    silence(model, f"{LAYER}mlp.up_proj")
    with caplog.at_level(logging.WARNING):
        made, record = compressed(model, tokenizer, words, *more, method=method)
    for name, why in (("up_proj", "weight is zero"), ("down_proj", "inputs are zero")):
        assert why in told(record)[f"{LAYER}mlp.{name}"]
        assert ranks(record)[f"{LAYER}mlp.{name}"] == 0
        assert caplog.text.count(f"fallback: {LAYER}mlp.{name}: ") == 1
    if "flrc" in method or "kfac" in method:  # whose gradients, or score, are 0 behind it
        assert told(record)[f"{LAYER}mlp.gate_proj"].endswith("kept dense")
        assert ranks(record)[f"{LAYER}mlp.gate_proj"] is None
    errors = {row["target"]: row["relative_error"] for row in record.results["layers"]}
    assert errors[f"{LAYER}mlp.up_proj"] == errors[f"{LAYER}mlp.down_proj"] == 0
    # Its parameters are saved, so the others lose less: the rate is the requested one.
    size = record.results["parameters"]
    assert 0.7 * size["targets_dense"] * 0.998 < size["targets_activated"]
    assert size["targets_activated"] <= 0.7 * size["targets_dense"]
    logits = made(input_ids=IDS).logits
    assert bool(torch.isfinite(logits).all())
    flrc.save(made, tmp_path / "kept")
    kept = flrc.load(tmp_path / "kept", "cpu")
    assert torch.equal(kept(input_ids=IDS).logits, logits)
    assert flrc.generate(kept, "hello", max_new_tokens=4) == flrc.generate(
        made, "hello", max_new_tokens=4
    )


@pytest.mark.parametrize("form", [TwoFactor(), Pivoted()])
def test_rank_0_is_the_bias_alone(
    form: Any, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    """Whether its (missing) factors are in memory or on disk, or are multiplied out."""
    model = make_model("tiny_qwen2")
    targets = find_targets(model)
    name = targets[0].name
    bias = model.get_submodule(name).bias.data.normal_().clone()
    plans = make_plans(Uniform(), Constant(), targets, form, Evidence(kept={name: "zero"}), 0.3)
    assert plans.constant.ranks[name] == 0
    assert plans.constant.realised == pytest.approx(0.3, abs=2e-3)
    compress(
        model, targets, plans.all, form,
        lambda name, rank: (
            torch.randn(rank, model.get_submodule(name).out_features),
            torch.randn(rank, model.get_submodule(name).in_features),
        ),
    )  # fmt: skip
    check_counts(model, targets, plans, form)
    layer = low_rank_layers(model)[name]
    assert torch.equal(layer(torch.randn(2, 3, layer.in_features)), bias.expand(2, 3, -1))
    assert target_parameters(model, [name])[1] == 0
    logits = model(input_ids=IDS).logits
    dense, stored = (sum(t.dense for t in targets), sum(p.nbytes for p in model.parameters()))
    targets_stored = sum(
        rows.bytes() for one in low_rank_layers(model).values() for rows, _ in one.matrices()
    )
    budget = f"{(stored - targets_stored // 2) / 1e6:.6f}MB"
    with Offload(budget=budget, folder=str(tmp_path)).running(model, targets, 4 * dense):
        assert streamers(model)
        assert torch.equal(model(input_ids=IDS).logits, logits)
        assert torch.equal(model(input_ids=IDS).logits, logits)
        assert streamers(model)[0].misses <= 1
    assert not dense_weight(layer).any()


def test_a_layer_behind_a_zero_one_has_no_gradients(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    """Another case: what comes before a zero ``o_proj`` computes something without effect."""
    for method, reason in (("kfac", "gradients at its outputs are zero"), ("flra", "score is 0")):
        model = make_model()
        silence(model, f"{LAYER}self_attn.o_proj")
        _, record = compressed(model, tokenizer, words, method=method)
        assert ranks(record)[f"{LAYER}self_attn.o_proj"] == 0
        for projection in ("q_proj", "k_proj", "v_proj"):
            assert reason in told(record)[f"{LAYER}self_attn.{projection}"]
            assert ranks(record)[f"{LAYER}self_attn.{projection}"] is None
        assert record.results["rate"]["realised"] == pytest.approx(0.3, abs=2e-3)


def test_a_dead_layer_of_a_group_is_reported(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    model = make_model()
    silence(model, f"{LAYER}self_attn.q_proj")
    _, record = compressed(model, tokenizer, words, method="kfac_skipcat")
    group = f"{LAYER}self_attn.q_proj+k_proj+v_proj"
    assert f"the weight of {LAYER}self_attn.q_proj is zero" in told(record)[group]
    assert ranks(record)[group] != 0


def test_constant_inputs_have_one_direction(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    model = make_model()
    model.model.layers[1].input_layernorm.weight.data[1:] = 0
    made, record = compressed(model, tokenizer, words)
    assert "1 of " in told(record)[f"{LAYER}self_attn.q_proj"]
    assert bool(torch.isfinite(made(input_ids=IDS).logits).all())


@pytest.mark.parametrize("method", ["svdllm", "kfac", "flra"])
@pytest.mark.parametrize("size", [1e-30, 1e22])
def test_tiny_and_huge_numbers_are_not_dead(
    method: str, size: float, make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    """What one layer scales up the next scales down: the model computes the same, truncated too."""
    found = []
    for factor in (1.0, size):
        model = make_model()
        model.get_submodule(f"{LAYER}mlp.up_proj").weight.data.mul_(factor)
        model.get_submodule(f"{LAYER}mlp.down_proj").weight.data.mul_(1 / factor)
        made, record = compressed(model, tokenizer, words, method=method)
        assert not any("kept" in what for what in told(record).values())
        found.append((ranks(record), made(input_ids=IDS).logits))
    (expected, logits), (scaled, same) = found
    assert scaled == expected
    assert float((same - logits).norm() / logits.norm()) < 1e-3


def test_a_weight_that_is_not_a_number_is_refused_by_name(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], tmp_path: Path
) -> None:
    for method in ("svd", "svdllm", "kfac"):
        for value in (math.nan, -math.inf):
            model = make_model()
            model.get_submodule(f"{LAYER}mlp.down_proj").weight.data[3, 5] = value
            with pytest.raises(UserError, match=f"not finite: {LAYER}mlp.down_proj.weight"):
                compressed(model, tokenizer, words, method=method)
    assert not list((tmp_path / "runs").rglob("record.json"))
    check_finite(make_model(), "sound")


def test_blocks_that_overflow_are_refused_by_name(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    model = make_model()
    model.model.layers[0].mlp.up_proj.weight.data.mul_(1e38)
    with pytest.raises(RuntimeError, match="hidden states behind block 0 are not finite"):
        compressed(model, tokenizer, words)


@pytest.mark.parametrize("method", ["svdllm", "asvd_uniform", "kfac", "flrc", "kfac_skip"])
def test_statistics_that_overflow_keep_their_layers(
    method: str, make_model: Callable[..., Any], tokenizer: Any, words: list[str], monkeypatch: Any
) -> None:
    """Only for down_proj, whose inputs are that wide."""
    before = InputAccumulator.result

    def overflown(accumulator: InputAccumulator) -> InputStatistics:
        found = before(accumulator)
        return replace(found, gram=found.gram / 0) if len(found.gram) == 96 else found

    monkeypatch.setattr(InputAccumulator, "result", overflown)
    made, record = compressed(make_model(), tokenizer, words, method=method)
    kept = {name for name, what in told(record).items() if "inputs are not finite" in what}
    assert kept == {name for name in ranks(record) if name.endswith("down_proj")}
    assert all(ranks(record)[name] is None for name in kept)
    assert record.results["rate"]["realised"] == pytest.approx(0.3, abs=0.01)
    assert bool(torch.isfinite(made(input_ids=IDS).logits).all())


def test_what_is_dead_by_hand() -> None:
    weight, gram = torch.ones(2, 3), torch.eye(3).double()
    known = InputStatistics(gram, torch.ones(3).double(), 5)
    nothing = InputStatistics(gram * 0, torch.zeros(3).double(), 5)
    unseen = InputStatistics(gram * 0, torch.zeros(3).double(), 0)
    assert why_dead(weight, None, None) is None
    assert why_dead(weight, known, None) is None
    assert why_dead(weight * 1e-45, known, None) is None
    assert why_dead(weight * 0, known, None) == ("the weight is zero", "zero")
    assert why_dead(weight, nothing, None) == (
        "its inputs are zero on all calibration tokens",
        "zero",
    )
    assert why_dead(weight, unseen, None) == ("no calibration token reaches it", "dense")
    assert dead_targets({"a": 0.0, "b": 1e-300, "c": 0.0}, {"c": "zero"}) == {
        "a": "dense", "c": "zero",
    }  # fmt: skip


def test_rank_0_saves_no_more_than_was_asked_for() -> None:
    targets = [Target(name, 10, 10, 0, "q_proj", name) for name in "abcd"]
    kept = {"a": "zero", "b": "dense", "c": "zero"}
    for spare, expected in ((99, (None, None)), (100, (0, None)), (200, (0, 0))):
        assert dead_ranks(targets, kept, spare) == {"a": expected[0], "b": None, "c": expected[1]}
    rates = {}
    for rate in (0.1, 0.25, 0.3, 0.5, 0.6):
        planner = Planner(Uniform(), targets, TwoFactor(), Evidence(kept=kept))
        rates[rate] = planner.constant(rate).realised
    assert rates[0.25] == 0.25
    for rate, found in rates.items():
        assert -1e-12 <= found - rate <= 0.05  # a rank is a twentieth


def test_phases_nest_around_dead_layers() -> None:
    targets = [Target(f"t{i}", 60, 80, 0, "q_proj", f"t{i}") for i in range(8)]
    evidence = Evidence(kept={"t1": "zero", "t2": "zero", "t3": "zero", "t4": "dense"})
    plans = make_plans(Uniform(), Progressive(), targets, TwoFactor(), evidence, 0.3)
    (_, first), (_, second) = plans.phases
    # An eighth each: at 0.2 the first can go. At 0.4 two, since the others gain nothing back.
    assert [first.ranks[f"t{i}"] for i in (1, 2, 3, 4)] == [0, None, None, None]
    assert [second.ranks[f"t{i}"] for i in (1, 2, 3, 4)] == [0, 0, None, None]
    for plan in plans.all:
        assert plan.realised == pytest.approx(plan.requested, abs=5e-3)
    for name, rank in second.ranks.items():
        assert rank is None or first.ranks[name] is None or rank <= first.ranks[name]


def test_a_rate_that_dense_layers_stand_against() -> None:
    targets = [Target(name, 40, 40, 0, "q_proj", name) for name in "ab"]
    planner = Planner(Uniform(), targets, TwoFactor(), Evidence(kept={"b": "dense"}))
    with pytest.raises(UserError, match=r"(?s)dead layers stay dense.*1 dead .*: b.*up to 0\.475"):
        planner.constant(0.6)


def test_a_plan_with_rank_0_is_replayed(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], tmp_path: Path
) -> None:
    model = make_model()
    silence(model, f"{LAYER}mlp.up_proj")
    _, record = compressed(model, tokenizer, words)
    (path,) = (tmp_path / "runs").rglob("plan.json")
    path = path.rename(tmp_path / "plan.json")
    model = make_model()
    silence(model, f"{LAYER}mlp.up_proj")
    more = ["allocator=replay", f"allocator.path={path}"]
    _, again = compressed(model, tokenizer, words, *more)
    assert ranks(again) == ranks(record)
    # A layer with an effect does not get rank 0.
    targets = [Target("a", 40, 40, 0, "q_proj", "a")]
    plan = {"requested": 0.3, "realised": 1.0 - 1e-9, "exact": True, "ranks": {"a": 0}}
    jsonfile.write(path, {"constant": plan, "phases": []})
    replay = Replay(path=str(path))
    budget = replay.budget(targets, TwoFactor(), 0.3)
    with pytest.raises(UserError, match="impossible rank for a"):
        replay.allocate(Evidence(), budget)


def test_a_score_that_overflows_keeps_its_layer(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], monkeypatch: Any
) -> None:
    from flrc.sensitivity.fisher import Fisher

    before, name = Fisher.score, f"{LAYER}self_attn.q_proj"
    monkeypatch.setattr(Fisher, "score", lambda *given: before(*given) | {name: math.inf})
    _, record = compressed(make_model(), tokenizer, words, method="flra")
    assert told(record) == {name: "its score is inf: kept dense"}
    assert ranks(record)[name] is None


def test_layers_may_see_different_numbers_of_tokens(
    make_model: Callable[..., Any], sequences: list[torch.Tensor], tmp_path: Path
) -> None:
    """As for experts: what is read from the cache is what was measured."""
    from flrc.core.cache import StageCache

    model = make_model()
    targets = [target for target in find_targets(model) if target.block == 0]
    ((block, known),) = list(input_statistics(model, targets, sequences))[:1]
    last = list(known)[-1]
    known[last] = InputStatistics(known[last].gram * 0, known[last].mean_abs * 0, 0)
    entry = StageCache(tmp_path, 10**9).entry("statistics", {"of": "experts"})
    names = [(target.block, target.input_group) for target in targets]
    with entry.lock():
        list(stored(InputStatistics, lambda: iter([(block, dict(known))]), names, entry))
    ((_, again),) = stored(InputStatistics, lambda: iter(()), names, entry)
    assert {name: one.tokens for name, one in again.items()} == {
        name: one.tokens for name, one in known.items()
    }


def test_eight_bits_of_rows_too_small_for_a_scale() -> None:
    rows = Int8Rows(torch.tensor([[1e-44, -1e-44], [0.0, 0.0], [1.0, -2.0]]))
    assert bool(torch.isfinite(rows.dense()).all())
    assert float((rows.dense()[2] - torch.tensor([1.0, -2.0])).abs().max()) < 0.02


def test_a_dead_layer_in_a_run_with_evaluation_and_tables(
    data_root: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from flrc.models.sources.random import Random

    load = Random.load

    def partly_dead(self: Any, dtype: str) -> nn.Module:
        model = load(self, dtype)
        silence(model, f"{LAYER}mlp.up_proj")
        return model

    monkeypatch.setattr(Random, "load", partly_dead)
    record = run(
        compose(
            "model=tiny",
            "method=flra",
            "data=folder",
            f"data.root={data_root}",
            "device=cpu",
            "calibration=wikitext2",
            "calibration.samples=4",
            "calibration.length=64",
            "evaluation=[perplexity]",
            "evaluation.perplexity.length=64",
            f"paths.runs={tmp_path / 'runs'}",
            f"paths.cache={tmp_path / 'cache'}",
        )
    )
    assert record.run["status"] == "ok"
    assert told(record)[f"{LAYER}mlp.up_proj"] == "the weight is zero: kept at rank 0"
    from flrc.results.plots import importance_plot, ranks_plot
    from flrc.results.plots.stability import keep_shares

    assert keep_shares(record)[list(ranks(record)).index(f"{LAYER}mlp.up_proj")] == 0
    assert ranks_plot.draw([record])
    assert importance_plot.draw([record])
