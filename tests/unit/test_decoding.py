"""Generation under a schedule: the text, the cache and the switches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from decoding import compressed, generate, prompt

from flrc.errors import UserError
from flrc.evaluation.reply_generation import agreement, generate_replies, up_to_end
from flrc.models.layers.low_rank_linear import LowRankLinear
from flrc.models.layers.switching import activate, prepared
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.runtime.decoding import Decoder
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive


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
    assert ours != plain_generate(model, prompt(), 10)[: len(ours)]  # the schedule matters here


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
    """Against full forward passes over everything so far, in a model with one phase."""
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
    """No weight is accessed: its time does not grow with the ranks."""
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
    assert len({tuple(reply) for reply in one}) > 5  # not the same answer to everything


def test_up_to_end_and_agreement_by_hand() -> None:
    assert up_to_end([5, 6, 2, 7], {2}) == [5, 6, 2]
    assert up_to_end([5, 6], {2}) == [5, 6]
    assert up_to_end([2, 2], {2}) == [2]
    assert agreement([1, 2, 3], [1, 9, 3]) == pytest.approx(2 / 3)
    assert agreement([1, 2], [1, 2, 3, 4]) == 0.5
    assert agreement([], [1]) == 0.0
    assert agreement([], []) == 1.0
    assert agreement([1, 2, 3], [2, 3, 1]) == 0.0
