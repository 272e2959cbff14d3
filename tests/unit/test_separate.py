"""Pivoted layers under a schedule: each rank by itself, and the product of two factors in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_factors import stacked_factors

from flrc.evaluation.step_cost import weights_read
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import check_counts, compress, stored_parameters
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.separate_linear import SeparateLinear
from flrc.models.layers.switching import activate
from flrc.plans.phase import Phase
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target
from flrc.quantization.int8 import Int8
from flrc.runtime.decoding import Decoder
from flrc.runtime.offload import Offload
from flrc.runtime.weight_streaming import streamers

SHAPES = ["tiny_llama_gqa", "tiny_qwen2"]


def built(model: Any, form: Any, shared: bool) -> tuple[list[Target], Plans]:
    """Two phases and a constant plan; one target is dense at first, one has one rank throughout."""
    found = find_targets(model)
    targets = Shared().targets(found) if shared else found
    plans = []
    for fewer in (0, 3, 6):
        ranks: dict[str, int | None] = {t.name: 14 + i % 3 - fewer for i, t in enumerate(targets)}
        ranks[targets[1].name] = 7
        ranks[targets[2].name] = None if fewer == 0 else 9
        plans.append(RankPlan.of(0.3, ranks, targets, form))
    first, constant, second = plans
    whole = Plans(constant, [(Phase(0.0, 0.2), first), (Phase(0.0, 0.4, step=3), second)])
    compress(model, targets, whole.all, form, stacked_factors(model, targets))
    activate(model, constant)
    return targets, whole


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(0, 200, (2, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.as_tensor(model(input_ids=ids).logits)


def generated(model: Any, tokenizer: Any, plans: Plans) -> torch.Tensor:
    ids = torch.randint(0, 200, (3, 12), generator=torch.Generator().manual_seed(0))
    decoder = Decoder(model, tokenizer, plans)
    return decoder.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=9)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_phase_is_the_product_of_two_factors(
    shape: str, shared: bool, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    seen: list[list[torch.Tensor]] = []
    replies = []
    for form in (TwoFactor(), Pivoted()):
        model = make_model(shape, spread=0.1)
        targets, plans = built(model, form, shared)
        check_counts(model, targets, plans, form)
        seen.append([])
        for plan in plans.all:
            activate(model, plan)
            seen[-1].append(logits(model))
        activate(model, plans.constant)
        replies.append(generated(model, tokenizer, plans))
    for two, pivoted in zip(*seen, strict=True):
        assert float((two - pivoted).norm() / two.norm()) < 1e-5
    assert float((seen[0][1] - seen[0][2]).norm() / seen[0][1].norm()) > 1e-2
    assert torch.equal(*replies)
    kinds = [type(layer) for layer in low_rank_layers(model).values()]
    assert SeparateLinear in kinds
    assert len(set(kinds)) == 2  # a target of one rank is stored once


def test_storage_is_that_of_every_rank(make_model: Callable[..., Any]) -> None:
    model, form = make_model("tiny_qwen2"), Pivoted()
    targets, plans = built(model, form, False)
    by_hand = 0
    for target in targets:
        ranks = {plan.ranks[target.name] for plan in plans.all}
        by_hand += sum(
            target.dense if r is None else r * (target.d_out + target.d_in - r) for r in ranks
        )
    assert stored_parameters(targets, plans.all, form) == by_hand
    phases = [plan for _, plan in plans.phases]
    assert stored_parameters(targets, phases, form) < by_hand


def test_a_rank_that_was_not_built_is_refused(make_model: Callable[..., Any]) -> None:
    model = make_model()
    built(model, Pivoted(), False)
    layer = next(m for m in low_rank_layers(model).values() if isinstance(m, SeparateLinear))
    held = [int(rank) for rank in layer.layers]
    with pytest.raises(ValueError, match="is not one of"):
        layer.rank = min(held) - 1
    with pytest.raises(ValueError, match="dense weight"):
        layer.rank = None
    assert layer.rank in held


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_only_the_active_rank_is_read(
    shared: bool, int8: bool, make_model: Callable[..., Any], tokenizer: Any, tmp_path: Any
) -> None:
    """Counted on the modules, and moved by the offload runtime; with the same tokens."""
    model = make_model("tiny_qwen2", spread=0.1)
    dense_bytes = sum(p.nbytes for p in model.parameters())
    targets, plans = built(model, Pivoted(), shared)
    if int8:
        Int8().quantize(model, targets)
    sizes = []
    for plan in plans.all:
        activate(model, plan)
        sizes.append(weights_read(model)[0])
    assert sizes[1] > sizes[0] > sizes[2]
    activate(model, plans.constant)
    expected = generated(model, tokenizer, plans)
    budget = "0.35" if int8 else "0.5"
    with Offload(budget=budget, folder=str(tmp_path)).running(model, targets, dense_bytes):
        assert torch.equal(generated(model, tokenizer, plans), expected)
        (streamer,) = streamers(model)
        before = streamer.misses
        activate(model, plans.phases[1][1])
        logits(model)
        logits(model)
        moved = streamer.moved
        logits(model)
        a_pass = streamer.moved - moved
        assert streamer.misses <= before + 2  # what was read ahead for the phase before
    assert 0 < a_pass < sizes[2]
