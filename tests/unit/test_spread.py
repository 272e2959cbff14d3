"""A model on several devices: which device holds what, and that the results are the same.

These tests need no GPU: where a module goes is worked out for devices 0, 1, ...; that accelerate's
hooks leave the numbers alone is shown with all of them on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flrc.errors import UserError
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.placement import stay_on_host, wait_on_host, waits_on_host
from flrc.pipeline import run
from flrc.runtime import spread as module
from flrc.runtime.spread import Spread, device_map, spread


def bytes_of(model: Any) -> int:
    return sum(p.nbytes for p in [*model.parameters(), *model.buffers()])


def test_blocks_stay_whole_and_in_order(make_model: Callable[..., Any]) -> None:
    model = make_model("tiny_llama")
    prefix, blocks = decoder_blocks(model)
    total = bytes_of(model)
    memory = {0: int(0.55 * total), 1: int(0.55 * total), 2: total}
    places = device_map(model, memory)
    of_block = {}
    for index in range(len(blocks)):
        name = f"{prefix}.{index}"
        found = {place for part, place in places.items() if f"{part}.".startswith(f"{name}.")}
        found |= {place for part, place in places.items() if f"{name}.".startswith(f"{part}.")}
        (of_block[index],) = found  # whole
    order = [of_block[index] for index in sorted(of_block)]
    assert order == sorted(order)
    assert len({*places.values()}) > 1
    for place, size in memory.items():
        held = sum(
            bytes_of(model.get_submodule(part)) for part, at in places.items() if at == place
        )
        assert held <= size


def test_gpus_that_are_too_small_are_reported_with_the_shortfall(
    make_model: Callable[..., Any],
) -> None:
    model = make_model("tiny_llama")
    third = bytes_of(model) // 3
    with pytest.raises(UserError, match="does not fit on the GPUs") as told:
        device_map(model, {0: third, 1: third})
    assert "runtime=offload" in str(told.value)


def test_without_gpus_it_is_refused_before_work(run_config: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="runtime=spread needs GPUs"):
        run(run_config("method=svdllm", "rate=0.3", "runtime=spread"))
    with pytest.raises(UserError, match="memory_gb is out of range"):
        Spread(memory_gb=0.0)


def test_a_model_that_waits_on_the_host_stays_there(make_model: Callable[..., Any]) -> None:
    model, ids = make_model("tiny_llama_gqa"), torch.arange(20)[None]
    before = model(input_ids=ids).logits
    wait_on_host(model, torch.device("cpu"))
    stay_on_host(model)
    assert not waits_on_host(model)
    assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize(
    "words",
    [
        ["method=flrc", "search=none"],
        ["method=skipcat"],
        ["method=kfac", "quantization=int8", "placement=host"],
        ["method=svdllm", "grouping=shared"],
    ],
    ids=" ".join,
)
def test_spreading_computes_the_same(
    words: list[str], run_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedules, pivoted layers, 8-bit rows and shared factors go through accelerate's hooks."""
    hooked = []

    def on_cpu(model: Any, memory: Any) -> dict[str, str]:
        total = bytes_of(model)
        places = device_map(model, {0: int(0.8 * total), 1: total})
        assert {*places.values()} == {0, 1}
        hooked.append(model)
        return dict.fromkeys(places, "cpu")

    more = [
        "evaluation=[perplexity,summarization]", "evaluation.summarization.limit=3",
        "evaluation.summarization.max_new_tokens=8",
        "evaluation.summarization.max_prompt_tokens=400",
    ]  # fmt: skip
    eager = run(run_config(*words, "rate=0.3", *more))
    monkeypatch.setattr(Spread, "check_device", lambda self, device: None)
    monkeypatch.setattr(module, "device_map", on_cpu)
    found = run(run_config(*words, "rate=0.3", "runtime=spread", "runtime.memory_gb=1", *more))
    assert eager.run["status"] == found.run["status"] == "ok", (eager.run, found.run)
    assert all(hasattr(model, "_hf_hook") for model in hooked)
    assert hooked
    assert [vars(m) for m in found.measurements] == [vars(m) for m in eager.measurements]


def test_hidden_states_follow_the_weights(make_model: Callable[..., Any]) -> None:
    """Between two devices: the second is torch's meta device, which has no numbers but shows it."""
    model = make_model("tiny_llama")
    blocks = decoder_blocks(model)[1]
    places = device_map(model, {0: int(0.7 * bytes_of(model)), 1: bytes_of(model)})
    # As objects: accelerate takes the name "cpu" for weights that wait there.
    devices = torch.device("cpu"), torch.device("meta")
    spread(model, {name: devices[int(place)] for name, place in places.items()})
    weights = [{p.device.type for p in block.parameters()} for block in blocks]
    assert weights[0] == {"cpu"}
    assert weights[-1] == {"meta"}
    hidden, angles = torch.zeros(1, 8, 48), torch.zeros(1, 8, 12)
    for block, where in zip(blocks, weights, strict=True):
        hidden = block(hidden, position_embeddings=(angles, angles), attention_mask=None)
        assert {hidden.device.type} == where
