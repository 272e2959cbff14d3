"""Generation under a schedule: the account against a counter in the layers, and the text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from flrc.allocator.evidence import Evidence
from flrc.allocator.plan import RankPlan
from flrc.allocator.planning import Plans, make_plans
from flrc.allocator.uniform import Uniform
from flrc.decomposition.svd import Svd
from flrc.errors import UserError
from flrc.evaluation.replies import agreement, generate_replies, up_to_end
from flrc.form.two_factor import TwoFactor
from flrc.models.lowrank import LowRankLinear
from flrc.models.surgery import activate, compress, prepared
from flrc.models.targets import Target, find_targets
from flrc.runtime.decoding import Decoder
from flrc.schedule.base import Schedule
from flrc.schedule.constant import Constant
from flrc.schedule.increasing import Increasing
from flrc.schedule.progressive import Progressive

FORM = TwoFactor()
THREE = Progressive(shares=[0.25, 0.25, 0.5], offsets=[-0.2, 0.0, 0.1])


def compressed(
    model: Any, schedule: Schedule, rate: float = 0.3, **allocator: Any
) -> tuple[list[Target], Plans]:
    targets = find_targets(model)
    plans = make_plans(Uniform(**allocator), schedule, targets, FORM, Evidence(), rate)
    weights = {t.name: model.get_submodule(t.name).weight.data.clone() for t in targets}

    def factors(name: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = Svd().decompose(weights[name], None)
        return found.left_t[:rank], found.right[:rank]

    compress(model, targets, plans.all, FORM, factors)
    activate(model, plans.constant)
    return targets, plans


@contextmanager
def counting(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Weights that each forward step reads in low-rank layers, counted on the tensors used."""
    steps: list[int] = []
    forward, linear, matmul = LowRankLinear.forward, nn.functional.linear, torch.Tensor.__matmul__
    inside = False

    def counted_linear(x: Any, weight: Any, *rest: Any) -> Any:
        if inside:
            steps[-1] += weight.numel()
        return linear(x, weight, *rest)

    def counted_matmul(x: Any, weight: Any) -> Any:
        if inside:
            steps[-1] += weight.numel()
        return matmul(x, weight)

    def wrapped(self: LowRankLinear, x: torch.Tensor) -> torch.Tensor:
        nonlocal inside
        inside = True
        try:
            return forward(self, x)
        finally:
            inside = False

    with monkeypatch.context() as patch:
        patch.setattr(LowRankLinear, "forward", wrapped)
        patch.setattr(nn.functional, "linear", counted_linear)
        patch.setattr(torch.Tensor, "__matmul__", counted_matmul)
        handle = model.model.register_forward_pre_hook(lambda *_: steps.append(0))
        try:
            yield steps
        finally:
            handle.remove()


def prompt(length: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(seed))


def generate(decoder: Decoder, ids: torch.Tensor, new: int) -> list[int]:
    output = decoder.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new
    )
    return up_to_end(output[0].tolist(), set(decoder.end_tokens()))


@pytest.mark.parametrize(
    "schedule", [Constant(), Progressive(), Increasing(), THREE], ids=["c", "p", "i", "three"]
)
@pytest.mark.parametrize("new", [1, 2, 7, 12])
def test_rate_per_step_is_what_the_layers_used(
    schedule: Schedule,
    new: int,
    make_model: Callable[..., Any],
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model()
    targets, plans = compressed(model, schedule)
    dense = sum(t.d_out * t.d_in for t in targets)
    decoder = Decoder(model, tokenizer, plans)
    monkeypatch.setattr(decoder, "end_tokens", list)  # runs to its full length
    with counting(model, monkeypatch) as steps:
        reply = generate(decoder, prompt(), new)
    assert len(steps) == len(reply) == new
    measured = sum(1 - used / dense for used in steps) / len(steps)
    assert decoder.rate_per_step([new], new) == pytest.approx(measured, abs=1e-12)
    if schedule.name == "progressive":
        assert steps == sorted(steps, reverse=True)
    if new == 12:
        assert len(set(steps)) == len(plans.phases)
        assert measured == pytest.approx(0.3, abs=0.003)  # a rank is 0.0012 of this model


@pytest.mark.parametrize("schedule", [Progressive(), Increasing(), THREE], ids=["p", "i", "three"])
@pytest.mark.parametrize("end", [1, 5, 8])
def test_rate_of_a_reply_that_ends_early(
    end: int,
    schedule: Schedule,
    make_model: Callable[..., Any],
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model()
    targets, plans = compressed(model, schedule)
    dense = sum(t.d_out * t.d_in for t in targets)
    decoder = Decoder(model, tokenizer, plans)
    monkeypatch.setattr(decoder, "end_tokens", list)
    # The token that the model says at step `end`, and not before, is made the end of a reply.
    for seed in range(50):
        free = generate(decoder, prompt(seed=seed), 12)
        if free.index(free[end - 1]) == end - 1:
            break
    monkeypatch.setattr(decoder, "end_tokens", lambda: [free[end - 1]])
    with counting(model, monkeypatch) as steps:
        reply = generate(decoder, prompt(seed=seed), 12)
    assert reply == free[:end]
    assert len(steps) == end
    measured = sum(1 - used / dense for used in steps) / end
    assert decoder.rate_per_step([len(reply)], 12) == pytest.approx(measured, abs=1e-12)


def test_rates_by_hand(make_model: Callable[..., Any], tokenizer: Any) -> None:
    model = make_model()
    _, plans = compressed(model, Progressive())
    early, late = (plan.realised for _, plan in plans.phases)
    decoder = Decoder(model, tokenizer, plans)
    # Eight steps at most: four early, four late. Replies of 2, 6, 8: 2 + 4 + 4 early, 2 + 4 late.
    assert decoder.rate_per_step([2, 6, 8], 8) == pytest.approx((10 * early + 6 * late) / 16)
    # Per token: prompts of 10, 20 and 30 at the early rate, then 1, 3 + 2 and 3 + 4 generated ones.
    expected = (60 * early + (1 + 3 + 3) * early + (2 + 4) * late) / (60 + 13)
    assert decoder.rate_per_token([2, 6, 8], [10, 20, 30], 8) == pytest.approx(expected)
    assert decoder.describe(8) == [{"step": 1, "rate": early}, {"step": 5, "rate": late}]
    assert decoder.describe(1) == [{"step": 1, "rate": early}, {"step": 2, "rate": late}]
    assert Decoder(model, tokenizer, None).rate_per_step([3], 8) == 0.0


def ranks(model: Any) -> dict[str, int | None]:
    return {n: m.rank for n, m in model.named_modules() if isinstance(m, LowRankLinear)}


@pytest.mark.parametrize("fails", [False, True])
def test_constant_ranks_are_back_afterwards(
    fails: bool, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model()
    _, plans = compressed(model, Progressive())
    before = ranks(model)
    assert before == plans.constant.ranks
    decoder = Decoder(model, tokenizer, plans)
    if fails:
        count = 0

        def fail(*_: Any) -> None:
            nonlocal count
            count += 1
            if count == 6:
                raise RuntimeError("broken at step 6")

        handle = model.model.register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="step 6"):
            generate(decoder, prompt(), 8)
        handle.remove()
    else:
        generate(decoder, prompt(), 8)
    assert ranks(model) == before
    assert not model._forward_pre_hooks


def plain_generate(model: Any, ids: torch.Tensor, new: int) -> list[int]:
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=258,
            eos_token_id=257,
        )
    return output[0, ids.shape[1] :].tolist()


def test_constant_schedule_is_plain_generation(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model()
    _, plans = compressed(model, Constant())
    for seed in range(3):
        ids = prompt(seed=seed)
        ours = generate(Decoder(model, tokenizer, plans), ids, 12)
        assert ours == plain_generate(model, ids, 12)[: len(ours)]
    dense = make_model()
    ours = generate(Decoder(dense, tokenizer, None), ids, 12)
    assert ours == plain_generate(dense, ids, 12)[: len(ours)]


def test_a_schedule_is_a_loop_that_switches_ranks(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    """Greedy decoding written out: prefill at the first plan; cached keys and values stay."""
    model = make_model()
    _, plans = compressed(model, Progressive(offsets=[-0.3, 0.3]), 0.4)
    decoder = Decoder(model, tokenizer, plans)
    ours = generate(decoder, prompt(), 10)
    ids, cache, by_hand = prompt(), None, []
    with torch.no_grad():
        for step in range(len(ours)):
            activate(model, plans.phases[0 if step < 5 else 1][1])
            output = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache, ids = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)
            by_hand.append(int(ids))
    assert ours == by_hand
    activate(model, plans.constant)
    assert ours != plain_generate(model, prompt(), 10)[: len(ours)]  # the schedule does matter here


def test_sampling_settings_of_a_model_are_not_used(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model()
    expected = generate(Decoder(model, tokenizer, None), prompt(), 8)
    model.generation_config.do_sample = True
    model.generation_config.temperature = 5.0
    model.generation_config.repetition_penalty = 3.0
    model.generation_config.min_new_tokens = 3
    assert generate(Decoder(model, tokenizer, None), prompt(), 8) == expected


def test_beam_search_cannot_follow_a_schedule(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model()
    _, plans = compressed(model, Progressive())
    ids = prompt()
    with pytest.raises(ValueError, match="beam search"):
        Decoder(model, tokenizer, plans).generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, num_beams=2
        )
    # One step is one phase, and a constant plan has no switch.
    constant = Plans(plans.constant, [(Constant().phases(0.3)[0], plans.constant)])
    output = Decoder(model, tokenizer, constant).generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, num_beams=2
    )
    assert output.shape[1] <= 4


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_the_cache_changes_no_token(
    shape: str, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    """Against whole forward passes over everything so far, in a model of one phase."""
    model = make_model(shape)
    _, plans = compressed(model, Constant())
    decoder = Decoder(model, tokenizer, plans)
    ids = torch.randint(0, 250, (3, 9), generator=torch.Generator().manual_seed(2))
    found = decoder.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        min_new_tokens=12,
    )
    whole = ids
    for _ in range(12):
        logits = model(input_ids=whole, use_cache=False).logits[:, -1]
        logits[:, decoder.end_tokens()] = -torch.inf
        whole = torch.cat([whole, logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(found, whole[:, 9:])


def test_a_switch_changes_no_cached_key_or_value(make_model: Callable[..., Any]) -> None:
    model = make_model()
    _, plans = compressed(model, Progressive())
    (_, high), (_, low) = plans.phases
    ids = torch.randint(0, 250, (2, 9), generator=torch.Generator().manual_seed(2))
    activate(model, high)
    output = model(input_ids=ids, use_cache=True)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in output.past_key_values.layers]
    activate(model, low)
    fed = output.logits[:, -1:].argmax(-1)
    after = model(input_ids=fed, past_key_values=output.past_key_values, use_cache=True)
    for (keys, values), layer in zip(before, after.past_key_values.layers, strict=True):
        assert layer.keys.shape[2] == 10
        assert torch.equal(layer.keys[:, :, :9], keys)
        assert torch.equal(layer.values[:, :, :9], values)


def test_a_switch_takes_microseconds(make_model: Callable[..., Any]) -> None:
    """No weight is touched: its time does not grow with the ranks."""
    model = make_model()
    targets, plans = compressed(model, Progressive())
    layers = [model.get_submodule(target.name) for target in targets]
    held = [parameter.data_ptr() for parameter in model.parameters()]
    switches = [(plan, prepared(model, plan)) for _, plan in plans.phases]
    seconds = []
    for _ in range(20):
        for plan, switch in switches:
            begun = time.perf_counter()
            switch()
            seconds.append(time.perf_counter() - begun)
            assert [layer.rank for layer in layers] == [plan.ranks[t.name] for t in targets]
    assert [parameter.data_ptr() for parameter in model.parameters()] == held
    assert min(seconds) < 50e-6
    wrong = RankPlan(0.3, 0.3, {t.name: 1000 for t in targets})
    with pytest.raises(ValueError, match="outside"):
        prepared(model, wrong)


def test_options_that_a_schedule_cannot_follow_are_refused(
    make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model()
    _, plans = compressed(model, Progressive())
    decoder = Decoder(model, tokenizer, plans)
    ids = torch.arange(9)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 4}
    for option in ("assistant_model", "prompt_lookup_num_tokens", "penalty_alpha"):
        with pytest.raises(UserError, match=option):
            decoder.generate(**given, **{option: 3})
    torch.manual_seed(0)
    drawn = decoder.generate(**given, do_sample=True, temperature=1.5, top_k=50)
    assert drawn.shape[0] == 1


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2", "tiny_gemma3"])
def test_batch_size_changes_no_token(
    shape: str, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    model = make_model(shape)
    _, plans = compressed(model, Progressive())
    decoder = Decoder(model, tokenizer, plans)
    lengths = [3, 40, 11, 25, 7, 18, 33, 5, 12]
    prompts = [prompt(n, seed)[0].tolist() for seed, n in enumerate(lengths)]
    one, eight = (
        generate_replies(decoder, prompts, batch_size=size, max_new_tokens=10) for size in (1, 8)
    )
    assert one == eight
    assert len({tuple(reply) for reply in one}) > 5  # not one answer to everything


def test_up_to_end_and_agreement_by_hand() -> None:
    assert up_to_end([5, 6, 2, 7], {2}) == [5, 6, 2]
    assert up_to_end([5, 6], {2}) == [5, 6]
    assert up_to_end([2, 2], {2}) == [2]
    assert agreement([1, 2, 3], [1, 9, 3]) == pytest.approx(2 / 3)
    assert agreement([1, 2], [1, 2, 3, 4]) == 0.5
    assert agreement([], [1]) == 0.0
    assert agreement([], []) == 1.0
    assert agreement([1, 2, 3], [2, 3, 1]) == 0.0
