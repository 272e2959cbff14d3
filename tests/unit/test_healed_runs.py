"""Runs that are healed: stages, records, caches and checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_deferred_search import GENERATES, SEARCHED
from tiny import compose

import flrc
from flrc import pipeline
from flrc.core.cache import Entry
from flrc.data.base import DataSource
from flrc.healing import states
from flrc.healing.end_to_end import NextTokens
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.pipeline import run
from flrc.results.records.record import Record
from flrc.running import healing
from flrc.running.identity import identity, run_folder, run_id

Make = Callable[..., Any]
HEALED = (
    "heal.passes=2",
    "heal.learning_rate=2e-5",
    "calibration=wikitext2",
    "calibration.samples=8",
    "calibration.length=24",
    "rate=0.4",
)


def stage(record: Record, name: str) -> dict[str, Any]:
    (found,) = [s for s in record.meta["stages"] if s["name"] == name]
    return found  # type: ignore[no-any-return]


def perplexity(record: Record) -> float:
    return next(m.value for m in record.measurements if m.name.endswith("/perplexity"))


@pytest.mark.parametrize("method", ["svdllm", "kfac_skip"])
def test_a_healed_run_and_its_cache(method: str, run_config: Make, tmp_path: Path) -> None:
    config = run_config(f"method={method}_healed", *HEALED)
    first, model = pipeline.run_with_model(config)
    assert first.run["status"] == "ok", first.run
    assert model is not None
    course = first.results["healing"]["distilled"]
    assert len(course["losses"]) == 2 * (8 + 2 * 8)  # a generated sequence of each half
    assert [check["step"] for check in course["checks"]] == [0, 24, 48]
    assert first.results["healing"]["tokens"] == (8 + 4) * 24
    assert "held-out calibration" in first.meta["tokens"]
    assert not stage(first, "healing")["cached"]
    for layer in model.model.modules():
        if isinstance(layer, PivotedLinear):
            assert layer.largest_coefficient <= 1.25
    again, same = pipeline.run_with_model(run_config(
        f"method={method}_healed", *HEALED, f"paths.runs={tmp_path}/other"
    ))  # fmt: skip
    assert same is not None
    assert stage(again, "healing")["cached"]
    assert again.results["healing"] == first.results["healing"]
    assert again.measurements == first.measurements
    for (name, tensor), other in zip(
        model.model.state_dict().items(), same.model.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other), name
    plain = run(run_config(f"method={method}", *HEALED[2:]))
    assert "healing" not in plain.results
    assert plain.run["id"] != first.run["id"]
    assert plain.results["layers"][0]["rank"] == first.results["layers"][0]["rank"]
    assert perplexity(plain) != perplexity(first)


def test_no_healing_leaves_ids_and_records_as_they_were() -> None:
    plain = compose("model=tiny", "method=kfac_skip")
    assert "heal" not in identity(plain)
    assert "heal" not in plain.to_plain()
    other = compose("model=tiny", "method=kfac_skip_healed", "heal=none")
    assert run_id(other) == run_id(plain)
    ids = {
        run_id(compose("model=tiny", "method=kfac_skip", *words))
        for words in ((), ("heal=distilled",), ("heal=distilled", "heal.passes=2"),
                      ("heal=blockwise",), ("heal=both",), ("heal=both", "heal.blockwise.passes=2"))
    }  # fmt: skip
    assert len(ids) == 6


def test_the_schedule_is_searched_before_it_is_healed(run_config: Make, tmp_path: Path) -> None:
    """Also for perplexity alone: the tuned factors depend on the phases."""
    made = ("method=flrc_healed", *SEARCHED, *HEALED[:5])
    first = run(run_config(*made))
    assert first.run["status"] == "ok", first.run
    assert first.results["phases"]
    names = [s["name"] for s in first.meta["stages"]]
    assert names.index("schedule") < names.index("healing")
    both = run(run_config(*made, *GENERATES))
    assert both.run["id"] == first.run["id"]
    assert stage(both, "healing")["cached"]
    assert both.results["phases"] == first.results["phases"]


@pytest.mark.parametrize("method", ["svdllm", "kfac_skip"])
def test_a_healed_checkpoint_is_like_any_other(method: str, run_config: Make) -> None:
    """It loads with the same logits, generates, and loses little when rounded to int8."""
    config = run_config(f"method={method}_healed", *HEALED, "model.save=true")
    record, made = pipeline.run_with_model(config)
    assert made is not None
    ids = torch.arange(3, 40)[None]
    loaded = flrc.load(run_folder(config).model)
    assert torch.equal(loaded(input_ids=ids).logits, made.model(input_ids=ids).logits)
    assert loaded.flrc.record is not None
    assert loaded.flrc.record.results["healing"] == json.loads(
        json.dumps(record.results["healing"])
    )
    assert flrc.generate(loaded, "the red fox", max_new_tokens=4) is not None
    rounded = run(run_config(f"method={method}_healed", *HEALED, "quantization=int8"))
    assert perplexity(rounded) == pytest.approx(perplexity(record), rel=0.01)
    assert stage(rounded, "healing")["cached"]


def test_an_interrupted_run_goes_on(
    run_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks that were healed are not healed again, and the numbers are the same."""
    base = ("method=svdllm", "heal=both", "heal.blockwise.passes=1", *HEALED[2:])
    whole = run(run_config(*base))
    read = healing.read_tensors

    def fails(*_: Any) -> None:
        raise RuntimeError("as if killed")

    monkeypatch.setattr(healing, "read_tensors", fails)
    other = (f"paths.cache={tmp_path}/b/cache", f"paths.runs={tmp_path}/b/runs")
    failed = run(run_config(*base, *other))
    assert (failed.run["status"], failed.run["stage"]) == ("failed", "healing")
    monkeypatch.setattr(healing, "read_tensors", read)
    again = run(run_config(*base, *other))
    assert again.run["status"] == "ok"
    assert stage(again, "healing")["cached"]
    (entry,) = (tmp_path / "b" / "cache" / "healed").glob("*/")
    assert {path.name for path in entry.iterdir()} == {
        "healed.safetensors", "healing.json", "inputs.json",
    }  # fmt: skip
    assert again.measurements == whole.measurements
    assert math.isfinite(perplexity(again))


def test_a_tuning_is_kept_until_its_result_is(
    run_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends while the tuned model is written does not tune it again."""
    monkeypatch.setattr(states, "SAVED_AFTER", 0.0)
    monkeypatch.setattr(states, "SAVING", 0.0)
    write, steps = Entry.write_tensors, []
    backward = NextTokens.backward

    def full(self: Entry, name: str, *rest: Any) -> None:
        if name == healing.HEALED:
            raise OSError("no space left on device")
        write(self, name, *rest)

    def counting(self: NextTokens, step: int) -> float:
        steps.append(step)
        return backward(self, step)

    monkeypatch.setattr(NextTokens, "backward", counting)
    monkeypatch.setattr(Entry, "write_tensors", full)
    made = ("method=svdllm_healed", *HEALED)
    failed = run(run_config(*made))
    assert (failed.run["status"], failed.run["stage"]) == ("failed", "healing")
    tuned = len(steps)
    assert tuned > 0
    monkeypatch.setattr(Entry, "write_tensors", write)
    again = run(run_config(*made))
    assert again.run["status"] == "ok"
    assert len(steps) == tuned
    (entry,) = (tmp_path / "cache" / "healed").glob("*/")
    assert {path.name for path in entry.iterdir()} == {
        "healed.safetensors", "healing.json", "inputs.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("calibration=wikitext2",),
        ("calibration=wikitext2_c4", "calibration.samples=7"),
        ("calibration=mixed", "calibration.dialogues=3"),
    ],
)
def test_held_out_sequences_are_others(words: tuple[str, ...], data: DataSource) -> None:
    config = compose("model=tiny", "method=svdllm", *words, "calibration.length=24")
    tokenizer = config.model.tokenizer()
    drawn = config.calibration.sequences(data, tokenizer, 0)
    held_out = config.calibration.held_out(data, tokenizer, 0, 4)
    assert len(held_out) == 4
    texts = {tuple(ids.tolist()) for ids in drawn}
    assert len(texts) == len(drawn)
    assert not texts & {tuple(ids.tolist()) for ids in held_out}
    again = config.calibration.held_out(data, tokenizer, 0, 4)
    assert all(torch.equal(a, b) for a, b in zip(held_out, again, strict=True))
