"""What ``flrc.load`` and ``flrc.compress`` return is a model of transformers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel

import flrc
from flrc.errors import UserError
from flrc.library.generation import decoder_of
from flrc.models.layers.switching import activate

IDS = torch.arange(3, 30)[None]
TEXTS = ["a fox that ran over the hill " * 4, "and slept soon after that " * 6]


@pytest.fixture
def made(make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> tuple[Any, Any, Any]:
    """The dense object, and what compressing it returned."""
    dense = make_model()
    model, record = flrc.compress(
        dense, tokenizer, method="flrc", rate=0.4, calibration=TEXTS,
        overrides=["search=none", "quantization=int8",
                   f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"],
    )  # fmt: skip
    return dense, model, record


def scheduled(model: Any) -> torch.Tensor:
    reply = decoder_of(model).generate(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=12
    )
    return torch.cat([IDS, reply], dim=1)


def replies(model: Any, **options: Any) -> torch.Tensor:
    settings = {"max_new_tokens": 12, "do_sample": False, **options}
    reply: torch.Tensor = model.generate(IDS, attention_mask=torch.ones_like(IDS), **settings)
    return reply


def test_it_is_the_callers_object_and_generates_under_its_schedule(
    made: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    dense, model, record = made
    assert model is dense
    assert isinstance(model, LlamaForCausalLM)
    assert len(model.flrc.plans.phases) > 1
    assert model.flrc.record is record
    assert model.tokenizer is model.flrc.tokenizer
    assert model.plans is model.flrc.plans
    logits = model(input_ids=IDS).logits
    assert torch.equal(replies(model), scheduled(model))
    assert not torch.equal(replies(model), model.generate_at_one_rank(
        IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=12, do_sample=False))  # fmt: skip
    assert torch.equal(model(input_ids=IDS).logits, logits)  # the constant plan is active again
    with pytest.raises(ValueError, match="cannot follow a schedule"):
        replies(model, num_beams=2)
    with pytest.raises(NotImplementedError, match=r"flrc\.save"):
        model.save_pretrained(tmp_path / "folder")


def test_copies_and_loaded_models_are_alike(made: tuple[Any, Any, Any], tmp_path: Path) -> None:
    _, model, record = made
    flrc.save(model, tmp_path / "kept")
    loaded = flrc.load(tmp_path / "kept", "cpu")
    assert isinstance(loaded, PreTrainedModel)
    assert type(loaded).__name__ == "LlamaForCausalLM"
    expected, text = scheduled(model), flrc.generate(model, "hello", max_new_tokens=8)
    for other in (loaded, copy.deepcopy(model), copy.deepcopy(loaded), loaded.to("cpu").eval()):
        assert torch.equal(replies(other), expected)
        assert flrc.generate(other, "hello", max_new_tokens=8) == text
        assert other.flrc.plans == model.flrc.plans
        assert other.flrc.record.run["id"] == record.run["id"]
    # A copy has its own ranks.
    other = copy.deepcopy(model)
    activate(other, model.plans.phases[-1][1])
    assert not torch.equal(other(input_ids=IDS).logits, model(input_ids=IDS).logits)
    flrc.save(loaded, tmp_path / "again")
    assert flrc.load(tmp_path / "again", "cpu").flrc.record == loaded.flrc.record


def test_other_models_are_refused(made: tuple[Any, Any, Any], tmp_path: Path) -> None:
    _, model, _ = made
    flrc.save(model, tmp_path / "kept")
    for other in (AutoModelForCausalLM.from_pretrained(tmp_path / "kept"), object()):
        with pytest.raises(UserError, match=r"flrc\.load"):
            flrc.generate(other, "hello")
        with pytest.raises(UserError, match=r"flrc\.load"):
            flrc.save(other, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_is_saved_to_the_bit(
    made: tuple[Any, Any, Any], tmp_path: Path, dtype: torch.dtype
) -> None:
    _, model, _ = made
    flrc.save(model, tmp_path / "kept")
    converted = copy.deepcopy(flrc.load(tmp_path / "kept", "cpu")).to(dtype)
    flrc.save(converted, tmp_path / "converted")
    again = flrc.load(tmp_path / "converted", "cpu")
    assert again.dtype == dtype
    before, after = converted.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype
        assert torch.equal(tensor, after[name])
    # A whole number in int8 is the same in every dtype: only the other tensors are rounded.
    integers = [name for name, tensor in before.items() if tensor.dtype == torch.int8]
    assert integers
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in integers)


def test_what_could_not_be_loaded_is_not_saved(made: tuple[Any, Any, Any], tmp_path: Path) -> None:
    _, model, _ = made
    flrc.save(model, tmp_path / "kept")
    before = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    model.model.norm.double()
    with pytest.raises(UserError, match=r"model\.norm\.weight is \(\d+,\) torch\.float64") as error:
        flrc.save(model, tmp_path / "kept")
    assert "model.to(torch.float32)" in str(error.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    flrc.save(model.to(torch.float32), tmp_path / "kept")
