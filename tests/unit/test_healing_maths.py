"""The formulas of healing against NumPy and autograd."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from healing import case, sequences
from tiny import make_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flrc.healing import block_tuning
from flrc.healing.blockwise import WEIGHTINGS, Blockwise
from flrc.healing.both import Both
from flrc.healing.distilled import Distilled
from flrc.healing.divergence import divergence
from flrc.healing.draws import drawn, tuned_plans
from flrc.healing.end_to_end import batches
from flrc.healing.learning_rate import learning_rate
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.model_shape import ModelShape
from flrc.models.anatomy.targets import find_targets
from flrc.plans.phase import Phase
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans


def states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    tuned, dense = (torch.randn(11, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    return tuned, dense, torch.randn(7, 5, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 3, 11, 100])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_divergence_and_gradient(chunk: int, cap: float | None) -> None:
    """Against NumPy's softmax at once; the gradient is ``p_tuned - p_dense`` behind the head."""
    tuned, dense, weight = states()

    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits = hidden @ weight.T
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def softmax(hidden: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        raw = hidden.numpy() @ weight.numpy().T
        logits = raw if cap is None else cap * np.tanh(raw / cap)
        exponentials = np.exp(logits)
        slope = np.ones_like(raw) if cap is None else 1 - np.tanh(raw / cap) ** 2
        return exponentials / exponentials.sum(1, keepdims=True), slope

    p, _ = softmax(dense)
    q, slope = softmax(tuned)
    found, gradient = divergence(tuned, dense, head, chunk)
    assert found == pytest.approx((p * np.log(p / q)).sum() / len(p), rel=1e-12)
    assert gradient is not None
    by_hand = ((q - p) * slope) @ weight.numpy() / len(p)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-10, atol=1e-14)
    alone, none = divergence(tuned, dense, head, chunk, gradient=False)
    assert none is None
    assert alone == found


def test_divergence_of_half_precision_states_is_float32() -> None:
    tuned, dense, weight = (tensor.bfloat16() for tensor in states())
    found, gradient = divergence(tuned, dense, lambda h: h @ weight.T, 4)
    wide = [nn.functional.log_softmax((h @ weight.T).double(), -1) for h in (dense, tuned)]
    assert found == pytest.approx(float((wide[0].exp() * (wide[0] - wide[1])).sum()) / 11, rel=1e-5)
    assert gradient is not None
    assert gradient.dtype == torch.bfloat16


def test_learning_rate() -> None:
    rates = [learning_rate(step, 20, 0.2, 0.05) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[-1] == pytest.approx(0.05)
    middle = 4 + 7.5  # between steps 11 and 12 the cosine is half way down
    assert (rates[11] + rates[12]) / 2 == pytest.approx((1 + 0.05) / 2)
    assert middle == 11.5
    assert sorted(rates[4:], reverse=True) == rates[4:]
    assert learning_rate(0, 1, 0.0, 0.05) == 0.05
    assert learning_rate(0, 1, 0.1, 0.05) == 1.0


def test_plans_are_drawn_by_their_weights() -> None:
    weights = [0.5, 0.3, 0.2]
    counts = np.zeros(3)
    for step in range(200):
        counts[drawn(weights, step)] += 1
        assert np.abs(counts - np.multiply(weights, step + 1)).max() <= 1
    assert counts.tolist() == [100, 60, 40]


def test_weights_of_a_schedule() -> None:
    """Half for the constant plan; the phases share the other half by their steps."""

    def plan(rank: int) -> RankPlan:
        return RankPlan(0.3, 0.3, {"a": rank})

    phases = [(Phase(0.0, 0.1), plan(9)), (Phase(0.25, 0.3), plan(7)), (Phase(0.5, 0.4), plan(4))]
    tuned = tuned_plans(Plans(plan(7), phases), 100)
    assert {t.plan.ranks["a"]: t.weight for t in tuned} == {7: 0.625, 9: 0.125, 4: 0.25}
    steps = [(Phase(0, 0.1, 0), plan(9)), (Phase(0, 0.3, 8), plan(7))]
    tuned = tuned_plans(Plans(plan(7), steps), 32)
    assert {t.plan.ranks["a"]: t.weight for t in tuned} == {7: 0.875, 9: 0.125}
    (only,) = tuned_plans(Plans(plan(7), [(Phase(0.0, 0.3), plan(7))]), 100)
    assert only.weight == 1


def test_every_pass_sees_every_sequence_once() -> None:
    passes = [[i for step in range(4) for i in batches(7, 2, 4 * n + step, 0)] for n in range(3)]
    assert all(sorted(order) == list(range(7)) for order in passes)
    assert passes[0] != passes[1]
    assert math.isclose(len(batches(7, 2, 3, 0)), 1)


def test_memory_that_is_reckoned() -> None:
    """The errors' weights of all blocks while they are collected, and the waiting dense states."""
    model = make_model()
    shape = replace(ModelShape.of(model, find_targets(model)), width=10_000)
    matrix, state = 4 * 10_000**2, 10_000 * shape.itemsize
    plain, weighted = (
        Blockwise(weighting=kind).demand(shape, [24] * 8, 0.01, True).held for kind in WEIGHTINGS
    )
    assert plain < matrix
    assert len(shape.blocks) * matrix <= weighted < len(shape.blocks) * matrix * 1.1
    both = Both(blockwise=Blockwise(passes=0), distilled=Distilled(passes=0))
    assert both.demand(shape, [24] * 8, 0.01, True).held == weighted + (8 + 4) * 24 * state


def test_logits_are_reckoned_as_they_are_made() -> None:
    """In chunks, whatever the length of a sequence."""
    model = make_model()
    usual = ModelShape.of(model, find_targets(model))
    large = replace(usual, vocabulary=usual.vocabulary + 1_000_000)
    for chunk in (64, 128):
        settings = Distilled(chunk=chunk)
        one, other = (settings.demand(s, [1024] * 8, 0.5, True).held for s in (usual, large))
        assert 5 * 4 * chunk * 1_000_000 <= other - one <= 8 * 4 * chunk * 1_000_000


def test_one_matrix_of_weights_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the other blocks stay on disk."""
    alive: list[weakref.ref[torch.Tensor]] = []
    original = block_tuning.error_weights

    def watched(gram: torch.Tensor, isotropic: float) -> torch.Tensor:
        gc.collect()
        assert sum(known() is not None for known in alive) <= 1
        made = original(gram, isotropic)
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(block_tuning, "error_weights", watched)
    made = case(tmp_path)
    Blockwise(passes=1).heal(made.given)
    assert len(alive) == len(decoder_blocks(made.model)[1])


@pytest.mark.parametrize("kind", [Distilled, Blockwise])
@pytest.mark.parametrize("recomputed", [False, True])
def test_operations_are_reckoned(kind: Any, recomputed: bool, tmp_path: Path) -> None:
    """As torch counts them; a graph that is not kept takes less memory and more operations."""
    made = case(tmp_path, dtype="float32", seen=6, ranks=(12,))
    made.model.set_attn_implementation("eager")  # torch counts its two products
    dense = replace(made.given.dense, sequences=sequences(6, 48))
    given = replace(made.given, dense=dense, unseen=sequences(4, 48, seed=9), recomputed=recomputed)
    shape, targets = ModelShape.of(made.model, dense.targets), dense.targets
    kept = sum(12 * (t.d_in + t.d_out) for t in targets) / sum(t.dense for t in targets)
    whole, again = (kind(passes=2).demand(shape, [48] * 6, kept, fits) for fits in (True, False))
    assert again.held < whole.held or kind is Blockwise
    with FlopCounterMode(display=False) as counter:
        kind(passes=2).heal(given)
    found = (again if recomputed else whole).operations
    assert counter.get_total_flops() == pytest.approx(found, rel=0.08)
