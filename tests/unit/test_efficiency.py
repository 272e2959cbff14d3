"""Speed against simulated clocks, bytes against a count by hand, and a run on a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from made_plans import make_plans
from plain_factors import stacked_factors

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.evaluation.efficiency import Efficiency, summary
from flrc.evaluation.roofline import Roofline
from flrc.evaluation.step_cost import StepCost, cached_bytes, step_costs, weights_read
from flrc.evaluation.timed_generation import Timing, alternate, timed
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import compress
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.switching import activate
from flrc.pipeline import run
from flrc.quantization.int8 import Int8
from flrc.runtime.decoding import Decoder
from flrc.runtime.offload import Offload
from flrc.runtime.weight_streaming import streamers
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive


def timing(prefill: float, steps: list[float]) -> Timing:
    return Timing(prefill, steps, torch.zeros(1, 1))


def test_summary_by_hand() -> None:
    """Two sequences, three decoding steps: 6 tokens per generation."""
    rows = [
        {"dense": timing(1.0, [2.0, 2.0, 2.0]), "compressed": timing(0.5, [1.0, 1.0, 1.0])},
        {"dense": timing(1.0, [3.0, 3.0, 3.0]), "compressed": timing(1.0, [1.0, 1.0, 1.0])},
        {"dense": timing(3.0, [2.0, 2.0, 2.0]), "compressed": timing(1.0, [1.0, 2.0, 1.0])},
    ]
    costs = {
        "dense": [StepCost(80, 20, 10)] * 3,
        "compressed": [StepCost(40, 20, 10), StepCost(30, 20, 10), StepCost(30, 20, 900)],
    }
    found = summary(rows, costs, Roofline(100.0, 1000.0), batch=2, prompt=8)
    values = {name: value for name, (value, _, _) in found.items()}
    assert values["tokens_per_second"] == pytest.approx(6 / 3)
    assert values["dense_tokens_per_second"] == pytest.approx(6 / 6)
    assert values["speedup"] == pytest.approx(2.0)  # of 2, 3 and 1.5
    assert (values["speedup_lowest"], values["speedup_highest"]) == (1.5, 3.0)
    assert values["prefill_speedup"] == pytest.approx(2.0)  # of 2, 1 and 3
    assert values["first_token_seconds"] == 1.0
    assert values["prefill_tokens_per_second"] == pytest.approx(16.0)
    assert values["bytes_per_token"] == pytest.approx((60 + 50 + 50) / 3 / 2)
    # 0.6 + 0.5 + 0.9 seconds: the last step is bound by its operations.
    assert values["allowed_tokens_per_second"] == pytest.approx(6 / 2.0)
    assert values["allowed_speedup"] == pytest.approx(3.0 / 2.0)
    assert values["share_of_allowed"] == pytest.approx(100 * 2.0 / 3.0)


def test_models_take_turns() -> None:
    asked: list[str] = []

    def made(name: str) -> Callable[[], Timing]:
        return lambda: (asked.append(name), timing(1, [1]))[1]

    rows = alternate({"a": made("a"), "b": made("b")}, 3, "timing")
    assert asked == ["a", "b", "a", "b", "b", "a", "a", "b"]  # a warm-up, then three repeats
    assert [list(row) for row in rows] == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_tokens_are_those_of_generate(make_model: Callable[..., Any]) -> None:
    model = make_model()
    ids = torch.randint(0, 250, (3, 7), generator=torch.Generator().manual_seed(0))
    found = timed(model, ids, 9)
    expected = model.generate(
        input_ids=ids, max_new_tokens=9, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert torch.equal(found.tokens, expected[:, 7:])
    assert len(found.steps) == 8
    assert all(seconds > 0 for seconds in (found.prefill, *found.steps))


def test_tokens_under_a_schedule_are_the_decoders(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model()
    targets = find_targets(model)
    plans = make_plans(Uniform(), Progressive(), targets, TwoFactor(), Evidence(), 0.4)
    compress(model, targets, plans.all, TwoFactor(), stacked_factors(model, targets))
    decoder = Decoder(model, tokenizer, plans)
    decoder.end_tokens = list  # type: ignore[method-assign]
    ids = torch.randint(0, 250, (2, 7), generator=torch.Generator().manual_seed(0))
    expected = decoder.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8
    )
    at = decoder.plans_by_step(8)
    assert list(at) == [0, 4]
    assert torch.equal(timed(model, ids, 8, at).tokens, expected)


def by_hand(model: Any, names: list[str], ranks: dict[str, Any], cost: Any, item: int) -> int:
    """Bytes of targets at these ranks, of norms, of the tied head; biases of the targets."""
    rest = sum(
        p.numel() * item
        for name, p in model.named_parameters()
        if not any(name.startswith(f"{target}.") for target in names)
    )
    return rest + sum(cost(name, ranks[name]) for name in names)


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_llama", "tiny_qwen2"])
def test_bytes_of_a_step_by_hand(shape: str, make_model: Callable[..., Any]) -> None:
    """``tiny_llama`` has an untied head: its embedding is looked up, not read."""
    model = make_model(shape)
    parameters = sum(p.numel() for p in model.parameters())
    embedding = model.get_input_embeddings().weight
    untied = model.lm_head.weight is not embedding
    dense = parameters - (embedding.numel() if untied else 0)
    assert weights_read(model) == (4 * dense, dense)

    targets = find_targets(model)
    plans = make_plans(Uniform(), Progressive(), targets, TwoFactor(), Evidence(), 0.4)
    compress(model, targets, plans.all, TwoFactor(), stacked_factors(model, targets))
    biases = sum(
        model.get_submodule(t.name).bias.numel()
        for t in targets
        if model.get_submodule(t.name).bias is not None
    )
    rest = dense - sum(t.dense for t in targets) - biases
    for plan in plans.all:
        activate(model, plan)
        active = sum(
            t.dense if (rank := plan.ranks[t.name]) is None else rank * (t.d_in + t.d_out)
            for t in targets
        )
        size, count = weights_read(model)
        assert count == rest + active
        assert size == 4 * (rest + active + biases)
    Int8().quantize(model, targets)
    for plan in plans.all:
        activate(model, plan)
        active = sum(plan.ranks[t.name] * (t.d_in + t.d_out) for t in targets)
        # A scale a rank, an exponent a channel, and a second byte for the first rank.
        scales = sum(2 * 4 * plan.ranks[t.name] + 2 * (t.d_in + t.d_out) for t in targets)
        assert weights_read(model)[0] == 4 * (rest + biases) + active + scales


def test_dense_rows_are_read_too(make_model: Callable[..., Any], tmp_path: Any) -> None:
    """Quantised, or streamed from elsewhere and no longer held."""
    model = make_model("tiny_qwen2")
    targets = find_targets(model)
    size, count = weights_read(model)
    bytes_of_the_model = sum(p.nbytes for p in model.parameters())
    runtime = Offload(budget="0.6", folder=str(tmp_path))
    with runtime.running(model, targets, bytes_of_the_model):
        assert streamers(model)
        assert weights_read(model) == (size, count)
    model = make_model("tiny_qwen2")
    Int8().quantize(model, targets)
    weights = sum(t.dense for t in targets)
    scales = sum(4 * t.d_out + t.d_in for t in targets)
    assert weights_read(model) == (size - 3 * weights + scales, count)


def test_shared_and_pivoted_bytes(make_model: Callable[..., Any]) -> None:
    """What a group does with its input is read once, and so is its order of the inputs."""
    model = make_model()
    dense, _ = weights_read(model)
    targets = Shared().targets(find_targets(model))
    plans = make_plans(Uniform(), Constant(), targets, Pivoted(), Evidence(), 0.3)
    compress(model, targets, plans.all, Pivoted(), stacked_factors(model, targets))
    size, count = weights_read(model)
    ranks = plans.constant.ranks
    active = sum(ranks[t.name] * (t.d_in + t.d_out - ranks[t.name]) for t in targets)
    removed = sum(t.dense for t in targets) - active
    assert count == dense // 4 - removed
    assert size == 4 * count + sum(4 * t.d_in for t in targets)


def test_costs_follow_the_phases(make_model: Callable[..., Any]) -> None:
    model = make_model()
    targets = find_targets(model)
    plans = make_plans(Uniform(), Progressive(), targets, TwoFactor(), Evidence(), 0.4)
    compress(model, targets, plans.all, TwoFactor(), stacked_factors(model, targets))
    (_, high), (_, low) = plans.phases
    read = []
    for plan in (high, low):
        activate(model, plan)
        read.append(weights_read(model))
    costs = step_costs(model, {0: high, 3: low}, batch=5, prompt=10, steps=6)
    assert [cost.weights for cost in costs] == [read[0][0]] * 2 + [read[1][0]] * 3
    assert [cost.operations for cost in costs] == [10 * read[0][1]] * 2 + [10 * read[1][1]] * 3
    # 2 (keys, values) * 3 layers * 2 heads * 12 channels * 4 bytes
    assert cached_bytes(model, 1) == 2 * 3 * 2 * 12 * 4
    assert [cost.cache for cost in costs] == [5 * 576 * n for n in (11, 12, 13, 14, 15)]


@pytest.mark.parametrize("method", ["dense", "flrc", "kfac_skipcat"])
def test_a_run(method: str, run_config: Callable[..., Any]) -> None:
    config = run_config(
        f"method={method}",
        "search=none",
        "rate=0.3",
        "evaluation=[efficiency]",
        "evaluation.efficiency.batch_sizes=[1,3]",
        "evaluation.efficiency.new_tokens=6",
        "evaluation.efficiency.repeats=2",
    )
    record = run(config)
    assert record.run["status"] == "ok", record.run
    values = {m.name: m for m in record.measurements}
    assert {name.split("/")[0] for name in values} == {"decode", "decode_batch3"}
    assert values["decode/tokens_per_second"].value > 0
    assert values["decode/share_of_allowed"].value > 0
    settings = values["decode_batch3/tokens_per_second"].settings
    assert (settings["batch"], settings["new_tokens"], settings["runtime"]) == (3, 6, "eager")
    assert settings["threads"] == 1
    assert settings["dtype"] == "float32"
    if method == "dense":
        assert "decode/speedup" not in values
    else:
        assert values["decode/speedup"].value > 0
        assert values["decode/allowed_speedup"].value > 1
        assert values["decode/bytes_per_token"].value < values["decode/dense_bytes_per_token"].value
    if method == "flrc":  # six steps, the first three at 0.2 and the others at 0.4
        assert values["decode/speedup"].rate == pytest.approx(0.3, abs=0.01)


def test_sizes_by_default() -> None:
    assert Efficiency(device="cpu").parts() == ["decode", "decode_batch8"]
    assert Efficiency(batch_sizes=[4]).parts() == ["decode_batch4"]
