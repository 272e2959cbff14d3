"""Healing of small models: what it keeps, what it changes, and that nothing is lost."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from healing import FORMS, Case, case, sequences
from safetensors.torch import load_file
from tiny import compose
from torch import Tensor, nn

from flrc.core.cache import Entry
from flrc.errors import UserError
from flrc.form.pivoted import Pivoted
from flrc.healing import states as states_module
from flrc.healing.block_tuning import Walk
from flrc.healing.block_weights import error_weights, output_grams
from flrc.healing.blockwise import Blockwise
from flrc.healing.both import Both
from flrc.healing.course import Course
from flrc.healing.distilled import Distilled
from flrc.healing.end_to_end import NextTokens
from flrc.healing.gradient_tuning import MOMENTS
from flrc.healing.optimizer import MasterOptimizer
from flrc.healing.pivot_exchange import exchange_pivots
from flrc.healing.states import StatesInMemory, StatesOnDisk
from flrc.healing.trained import Trained
from flrc.healing.tuning import Objective, tune
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.placement import stay_on_host, wait_on_host
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.layers.switching import activate

FAST = {"passes": 3, "learning_rate": 3e-3, "checks": 3}
KINDS = {
    "distilled": Distilled(**FAST),  # type: ignore[arg-type]
    "blockwise": Blockwise(**FAST),  # type: ignore[arg-type]
    "plain blockwise": Blockwise(**FAST, weighting="none"),  # type: ignore[arg-type]
    "both": Both(blockwise=Blockwise(**FAST), distilled=Distilled(**FAST)),  # type: ignore[arg-type]
}


def tensors(made: Case) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


def logits(made: Case) -> Tensor:
    return made.model(input_ids=torch.stack(sequences(3, seed=5))).logits.detach()


def block_of(name: str) -> int:
    """The index of the decoder block that has this tensor."""
    return int(name.split("layers.")[1].split(".")[0])


def divergence_from(dense: Tensor, made: Case) -> float:
    p, q = dense.log_softmax(-1), logits(made).log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize(
    ("kind", "form"),
    [("distilled", form) for form in FORMS]
    + [("blockwise", "two_factor"), ("blockwise", "pivoted, shared")]
    + [("plain blockwise", "pivoted"), ("both", "pivoted")],
)  # fmt: skip
def test_healing_moves_the_model_towards_the_dense_one(
    kind: str, form: str, tmp_path: Path
) -> None:
    """On sequences that nothing has seen; the ranks and the embeddings stay.

    A block's error falls, too; in random weights, the last logits need not follow it.
    """
    plain, made = (case(tmp_path / n, form, seen=16, spread=0.05) for n in ("plain", "healed"))
    dense = logits(plain)
    plain.given.replace(plain.given.dense.targets)
    course = KINDS[kind].heal(made.given)
    if kind in ("distilled", "both"):
        assert divergence_from(dense, made) < 0.97 * divergence_from(dense, plain)
    before, after = tensors(plain), tensors(made)
    assert before.keys() == after.keys()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    factors = {name for name in before if name.endswith(".values")}
    # What moved is what the course says: all factors end to end, and those of blocks not left as
    # they were.
    end_to_end = course.get("distilled", {"chosen": 0})["chosen"] > 0
    stayed = {one["block"] for one in course.get("blockwise", []) if not one["chosen"]}
    moved = {name for name in factors if end_to_end or block_of(name) not in stayed}
    assert changed & factors == moved
    assert moved
    assert changed - factors <= {name for name in before if name.endswith(".order")}
    for part in course.values():
        for one in part if isinstance(part, list) else [part]:
            held_out = [check["held_out"] for check in one["checks"]]
            assert one["checks"][0]["step"] == 0
            chosen = [check["step"] for check in one["checks"]].index(one["chosen"])
            assert min(held_out) == held_out[chosen]
            assert min(held_out) < held_out[0] or kind != "distilled"
            assert json.loads(json.dumps(one)) == one
    if "blockwise" in course:
        firsts = [one["checks"][0]["held_out"] for one in course["blockwise"]]
        bests = [min(check["held_out"] for check in one["checks"]) for one in course["blockwise"]]
        assert sum(bests) < sum(firsts)
    assert not any(parameter.requires_grad for parameter in made.model.parameters())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [Distilled, Blockwise])
def test_no_steps_change_nothing(kind: Any, dtype: str, form: str, tmp_path: Path) -> None:
    plain, made = case(tmp_path / "a", form, dtype), case(tmp_path / "b", form, dtype)
    plain.given.replace(plain.given.dense.targets)
    kind(passes=0).heal(made.given)
    assert same(tensors(plain), tensors(made))


class Valley(Objective):
    """``(w - 3)^2`` on the sequences; ``(w - best)^2`` on those held out."""

    def __init__(self, best: float, broken_at: int = -1) -> None:
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.trained = Trained({"w": self.weight}, {"w": self.weight.data})
        self.best, self.broken_at = best, broken_at

    def backward(self, step: int) -> float:
        with torch.enable_grad():
            loss = (self.weight - 3).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return math.nan if step == self.broken_at else float(loss.detach())

    def judge(self) -> float:
        return float((self.weight - self.best).square()) + 1


@pytest.mark.parametrize(
    ("best", "broken_at", "chosen", "stopped"),
    [
        (3.0, -1, 8, None),
        (0.2, -1, 0, "diverged: held-out loss"),  # the untuned state competes
        (0.6, -1, 2, "diverged: held-out loss"),
        (3.0, 5, 4, "diverged: the loss of step 6 is nan"),
    ],
)
def test_the_best_state_is_kept(
    best: float, broken_at: int, chosen: int, stopped: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Distilled(learning_rate=0.3, warmup=0.0, floor=1.0, checks=4)
    valley = Valley(best, broken_at)
    with caplog.at_level(logging.WARNING):
        course = tune(valley, valley.trained, settings, 8, StatesInMemory(), "tuning")
    assert course.chosen == chosen
    assert (course.stopped or "").startswith(stopped or "")
    assert (course.stopped is None) == (stopped is None)
    assert ("diverged" in caplog.text) == (stopped is not None)
    assert valley.judge() == min(check.held_out for check in course.checks)
    assert Course.from_json(json.loads(json.dumps(course.to_json()))) == course


class Killed(Exception):
    """As if the process had been killed."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("step", [0, 5, 8])
def test_an_interrupted_tuning_ends_with_the_same_bits(
    step: int, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_module, "SAVED_AFTER", 0.0)
    monkeypatch.setattr(states_module, "SAVING", 0.0)
    settings = Distilled(passes=3, learning_rate=3e-3, checks=3, optimizer=optimizer)
    whole = case(tmp_path / "whole", "pivoted", "float32")
    expected = settings.heal(whole.given)["distilled"]
    original = NextTokens.backward

    def killing(self: NextTokens, number: int) -> float:
        if number == step:
            raise Killed
        return original(self, number)

    monkeypatch.setattr(NextTokens, "backward", killing)
    with pytest.raises(Killed):
        settings.heal(case(tmp_path / "cut", "pivoted", "float32").given)
    seen: list[int] = []

    def counting(self: NextTokens, number: int) -> float:
        seen.append(number)
        return original(self, number)

    monkeypatch.setattr(NextTokens, "backward", counting)
    again = case(tmp_path / "cut", "pivoted", "float32")
    course = settings.heal(again.given)["distilled"]
    assert seen == list(range(step, 36))  # 3 passes of 4 given and 8 generated sequences
    assert same(tensors(whole), tensors(again))
    for one in (course, expected):
        for check in one["checks"]:
            del check["seconds"]
    assert course == expected


def test_seconds_are_those_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of the steps after the last check, from which the run continued."""
    monkeypatch.setattr(states_module, "SAVED_AFTER", 0.0)
    monkeypatch.setattr(states_module, "SAVING", 0.0)
    settings = Distilled(checks=1)
    states = StatesOnDisk(Entry(tmp_path, {}))

    def attempt(killed_at: int) -> Course:
        valley = Valley(3.0)
        original = valley.backward

        def slow(step: int) -> float:
            if step == killed_at:
                raise Killed
            time.sleep(0.05)
            return original(step)

        monkeypatch.setattr(valley, "backward", slow)
        return tune(valley, valley.trained, settings, 8, states, "tuning")

    with pytest.raises(Killed):
        attempt(6)
    shown: list[Any] = []
    monkeypatch.setattr(
        "flrc.healing.tuning.progress",
        lambda steps, *_, **named: shown.append((steps, named["done"])) or iter(steps),
    )
    course = attempt(-1)
    assert shown == [(range(6, 8), 6)]
    assert course.checks[-1].step == 8
    assert course.checks[-1].seconds >= 8 * 0.05


def test_stored_blocks_are_not_tuned_again(tmp_path: Path) -> None:
    settings = Blockwise(passes=2, learning_rate=3e-3)
    whole = case(tmp_path / "a", "pivoted", "float32")
    settings.heal(whole.given)
    files = sorted(path.name for path in (tmp_path / "a").glob("healed_block_*.json"))
    assert len(files) == len(decoder_blocks(whole.model)[1])
    again = case(tmp_path / "a", "pivoted", "float32")
    (tmp_path / "a" / files[-1]).unlink()
    before = {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in files[:-1]}
    settings.heal(again.given)
    assert same(tensors(whole), tensors(again))
    assert before == {name: (tmp_path / "a" / name).stat().st_mtime_ns for name in files[:-1]}


def test_hidden_states_wait_in_host_memory_alone(tmp_path: Path) -> None:
    """What the model passes to its blocks is known by length, without the states themselves."""
    made = case(tmp_path)
    short = [ids[: 5 + i] for i, ids in enumerate(made.given.dense.sequences)]
    given = replace(made.given, dense=replace(made.given.dense, sequences=short))
    walk = Walk.of(given)
    assert sorted(walk.calls) == [5, 6, 7, 8, 12]
    assert [call.hidden.numel() for call in walk.calls.values()] == [0] * 5


def test_a_block_that_adds_nothing(tmp_path: Path) -> None:
    """Its update is zero, so errors are not a share of it; they are finite all the same."""
    made = case(tmp_path)
    for name, parameter in made.model.named_parameters():
        if ".layers.1." in name and name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data.zero_()
    course = Blockwise(passes=1, learning_rate=1e-4).heal(made.given)["blockwise"]
    checks = [check["held_out"] for one in course for check in one["checks"]]
    assert all(math.isfinite(value) for value in checks)


def test_half_precision_accumulates_small_steps(tmp_path: Path) -> None:
    """Steps far below bfloat16's spacing: without a master copy none of them would arrive."""
    made, plain = case(tmp_path / "a", dtype="bfloat16"), case(tmp_path / "b", dtype="bfloat16")
    plain.given.replace(plain.given.dense.targets)
    made.given.replace(made.given.dense.targets)
    trained = Trained.of(made.model, made.model, Distilled())
    name, parameter = next(iter(trained.parameters.items()))
    assert trained.masters[name].dtype == torch.float32
    start = parameter.data.clone()
    for _ in range(64):
        trained.masters[name].mul_(1 + 1e-3)
        trained.round()
    grown = parameter.data.float().abs().sum() / start.float().abs().sum()
    assert float(grown) == pytest.approx(1.001**64, rel=1e-3)
    alone = start.clone()
    for _ in range(64):
        alone.mul_(1 + 1e-3)
    assert torch.equal(alone, start)


def test_exchanged_pivots(tmp_path: Path) -> None:
    """Coefficients that have grown over the bound come back within it; the product stays."""
    made = case(tmp_path, "pivoted, shared")
    made.given.replace(made.given.dense.targets)
    trained = Trained.of(made.model, made.model, Distilled())
    layers = [m for m in made.model.modules() if isinstance(m, PivotedLinear)]
    draw = torch.Generator().manual_seed(0)
    for layer in {id(layer.coefficients): layer for layer in layers}.values():
        values = layer.coefficients.dense()
        values.add_(0.4 * torch.randn(values.shape, generator=draw, dtype=values.dtype))
    assert max(layer.largest_coefficient for layer in layers) > 1.25
    before = logits(made)
    assert exchange_pivots(made.model, Pivoted(), trained) > 0
    assert max(layer.largest_coefficient for layer in layers) <= 1.25
    torch.testing.assert_close(logits(made), before, rtol=1e-9, atol=1e-9)
    untouched = tensors(made)
    assert exchange_pivots(made.model, Pivoted(), trained) == 0
    assert same(untouched, tensors(made))


def test_weights_of_block_errors(tmp_path: Path) -> None:
    """The Gram matrices of the gradients at the blocks' outputs, from autograd on their own."""
    model, ids = case(tmp_path).model, sequences(3)
    expected = [0.0] * len(decoder_blocks(model)[1])
    for sequence in ids:
        states = model(input_ids=sequence[None], output_hidden_states=True).hidden_states
        for index in range(len(expected)):
            seen: list[Tensor] = []

            def mark(_m: Any, _a: Any, out: Any, seen: list[Tensor] = seen) -> Any:
                leaf = (out[0] if isinstance(out, tuple) else out).detach().requires_grad_(True)
                seen.append(leaf)
                return (leaf, *out[1:]) if isinstance(out, tuple) else leaf

            handle = decoder_blocks(model)[1][index].register_forward_hook(mark)
            with torch.enable_grad():
                given = model(input_ids=sequence[None]).logits[0, :-1]
                torch.nn.functional.cross_entropy(given, sequence[1:], reduction="sum").backward()
            handle.remove()
            gradient = seen[0].grad[0].numpy()  # type: ignore[index]
            expected[index] = expected[index] + gradient.T @ gradient
        assert len(states) == len(expected) + 1
    tokens = sum(map(len, ids))
    for recomputed in (False, True):
        found = output_grams(model, ids, recomputed)
        for gram, sums in zip(found, expected, strict=True):
            np.testing.assert_allclose(gram, sums / tokens, rtol=1e-4, atol=1e-9)
    weights = error_weights(found[0], 0.25)
    assert float(weights.diagonal().mean()) == pytest.approx(1.0)
    np.testing.assert_allclose(
        weights - 0.75 * found[0] / found[0].diagonal().mean(),
        0.25 * np.eye(len(weights)),
        atol=1e-6,
    )


@pytest.mark.parametrize("form", ["two_factor", "pivoted"])
@pytest.mark.parametrize("kind", ["distilled", "blockwise"])
def test_every_plan_of_a_schedule_is_tuned(kind: str, form: str, tmp_path: Path) -> None:
    """Both plans come closer to the dense model, with one set of nested factors if there can be."""
    ranks = (6, 9, 4)
    plain, made = (case(tmp_path / n, form, ranks=ranks, seen=12) for n in ("plain", "healed"))
    dense = logits(plain)
    plain.given.replace(plain.given.dense.targets)
    KINDS[kind].heal(made.given)
    for plan in made.plans.all:
        activate(plain.model, plan)
        activate(made.model, plan)
        assert divergence_from(dense, made) < divergence_from(dense, plain)
    layer = next(iter(low_rank_layers(made.model).values()))
    if form == "two_factor":
        assert layer.left_t.count == max(ranks)


def test_recomputed_activations_give_the_same_bits(tmp_path: Path) -> None:
    stored, again = case(tmp_path / "a", dtype="float32"), case(tmp_path / "b", dtype="float32")
    settings = Distilled(**FAST)  # type: ignore[arg-type]
    settings.heal(stored.given)
    settings.heal(replace(again.given, recomputed=True))
    assert same(tensors(stored), tensors(again))


def test_what_is_tuned(tmp_path: Path) -> None:
    """Factors; vectors and dense layers where asked for; never embeddings or head."""
    made = case(tmp_path, shape="tiny_qwen2")
    keep = made.given.dense.targets[0].name
    for plan in made.plans.all:
        plan.ranks[keep] = None
    made.given.replace(made.given.dense.targets)
    chosen = {
        (vectors, dense): set(
            Trained.of(made.model, made.model, Distilled(vectors=vectors, dense=dense)).parameters
        )
        for vectors in (False, True)
        for dense in (False, True)
    }
    factors = chosen[False, False]
    assert all(name.endswith(".values") for name in factors)
    assert chosen[False, True] - factors == {f"{keep}.weight"}
    vectors = chosen[True, False] - factors
    assert {name.rsplit(".", 2)[-2] for name in vectors} >= {"norm", "input_layernorm"}
    assert any(name.endswith(".bias") for name in vectors)
    assert not any("embed" in name or "lm_head" in name for name in chosen[True, True])


def test_blocks_in_host_memory(tmp_path: Path) -> None:
    """The blocks' tensors are copied to the device for every call; gradients reach the host's."""
    settings = Both(blockwise=Blockwise(**FAST), distilled=Distilled(**FAST))  # type: ignore[arg-type]
    usual, hosted = (case(tmp_path / name, "pivoted", "float32") for name in "ab")
    wait_on_host(hosted.model, torch.device("cpu"))
    settings.heal(usual.given)
    settings.heal(replace(hosted.given, recomputed=True))
    stay_on_host(hosted.model)
    assert same(tensors(usual), tensors(hosted))


@pytest.mark.parametrize("kind", ["distilled", "blockwise"])
def test_nothing_to_tune(kind: str, tmp_path: Path) -> None:
    plain, made = case(tmp_path / "a"), case(tmp_path / "b")
    for plan in made.plans.all:
        plan.ranks.update(dict.fromkeys(plan.ranks))
    course = KINDS[kind].heal(made.given)
    assert same(tensors(plain), tensors(made))
    parts = course[kind] if kind == "blockwise" else [course[kind]]
    assert [part["chosen"] for part in parts] == [0] * len(parts)


def test_float16_is_refused() -> None:
    with pytest.raises(UserError, match="too small for float16"):
        compose("model=tiny", "method=svdllm_healed", "dtype=float16")


@pytest.mark.parametrize("optimizer", MOMENTS)
def test_optimizers(optimizer: str, tmp_path: Path) -> None:
    made = case(tmp_path, seen=8)
    course = Distilled(**FAST, optimizer=optimizer, clip=1.0).heal(made.given)["distilled"]  # type: ignore[arg-type]
    held_out = [check["held_out"] for check in course["checks"]]
    assert held_out[-1] < held_out[0]


@pytest.mark.parametrize("optimizer", MOMENTS)
def test_a_restored_optimizer_continues(optimizer: str, tmp_path: Path) -> None:
    """Through a file, with matrices large enough for 8-bit moments."""
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(128, 64, generator=draw) for _ in range(6)]
    settings = Distilled(optimizer=optimizer, learning_rate=1e-2)

    def made() -> dict[str, Tensor]:
        return {"a": torch.ones(128, 64), "b": torch.ones(128, 64)}

    def step(masters: dict[str, Tensor], moving: MasterOptimizer, index: int) -> None:
        for name, sign in (("a", 1), ("b", -1)):
            masters[name].grad = sign * gradients[index]
        moving.step(1.0)

    whole = made()
    moving = MasterOptimizer(settings, whole)
    for index in range(6):
        step(whole, moving, index)
    cut = made()
    first = MasterOptimizer(settings, cut)
    for index in range(3):
        step(cut, first, index)
    entry = Entry(tmp_path, {})
    entry.write_tensors("state.safetensors", first.state(), {})
    second = MasterOptimizer(settings, cut)
    second.restore(load_file(tmp_path / "state.safetensors"))
    for index in range(3, 6):
        step(cut, second, index)
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_restored_moments_are_where_the_masters_are() -> None:
    """The counters of steps too: a fused AdamW has them on its device."""
    masters = {"a": torch.ones(3, 2, device="meta")}
    optimizer = MasterOptimizer(Distilled(), masters)
    optimizer.restore({"a/step": torch.tensor(3.0), "a/exp_avg": torch.ones(3, 2)})
    devices = {key: value.device.type for key, value in optimizer.state().items()}
    assert devices == {"a/step": "meta", "a/exp_avg": "meta"}
