"""A saved compressed model: the same logits, bytes and text again, and clear refusals."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KINDS, built
from tiny import ROOT

import flrc
from flrc.chat import main
from flrc.errors import UserError
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.models.checkpoint import Loaded, load, save
from flrc.models.lowrank import low_rank_layers
from flrc.models.reading import described_digest
from flrc.models.switching import activate
from flrc.pipeline import run
from flrc.records.accounting import stored_bytes
from flrc.runtime.decoding import Decoder
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_llama", "tiny_qwen2"])
@pytest.mark.parametrize(("form", "schedule", "shared", "int8"), KINDS)
def test_the_same_model_again(
    shape: str,
    form: Form,
    schedule: Any,
    shared: bool,
    int8: bool,
    make_model: Callable[..., Any],
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    model = make_model(shape)
    targets, plans = built(model, form, schedule, shared, int8)
    save(Loaded(model, tokenizer, plans), tmp_path / "model")
    again = load(tmp_path / "model", CPU)
    assert again.plans == plans
    ids = torch.arange(40)[None]
    for plan in plans.all:
        for one in (model, again.model):
            activate(one, plan)
        assert torch.equal(model(input_ids=ids).logits, again.model(input_ids=ids).logits)
    assert again.model.dtype == model.dtype
    assert not any(p.requires_grad or p.is_meta for p in again.model.parameters())
    assert stored_bytes(again.model, targets) == stored_bytes(model, targets)
    assert sum(p.numel() for p in again.model.parameters()) == sum(
        p.numel() for p in model.parameters()
    )
    layers = low_rank_layers(model)
    assert low_rank_layers(again.model).keys() == layers.keys()
    for name, layer in low_rank_layers(again.model).items():
        assert (layer.shared is None) == (layers[name].shared is None)
    # Nothing is stored twice: the files are the bytes of the model, and a header.
    size = sum(file.stat().st_size for file in (tmp_path / "model").glob("*.safetensors"))
    stored = stored_bytes(model, targets)["model_stored"]
    assert stored <= size <= stored + 200 * len(model.state_dict())


def test_a_run_saves_and_three_lines_generate(
    run_config: Callable[..., Any], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["method=flrc", "search=none", "rate=0.3"]
    config = run_config(*overrides, "model.save=true")
    record = run(config)
    assert record.run["status"] == "ok", record.run
    (folder,) = (path.parent for path in Path(config.paths.runs).rglob("record.json"))
    model = flrc.load(folder)
    one = flrc.generate(model, "hello there", max_new_tokens=12)
    assert isinstance(one, str)
    both = flrc.generate(model, ["hello there", "a longer prompt than that"], max_new_tokens=12)
    assert both[0] == one
    drawn = {
        flrc.generate(model, "hello", max_new_tokens=12, do_sample=True, seed=s) for s in (0, 0, 1)
    }
    assert len(drawn) == 2
    with pytest.raises(UserError, match="does not know this option"):
        flrc.generate(model, "hello", assistant_model=None)
    # Saved is done; and a run that was not saved is completed, without another evaluation.
    modified = (folder / "model" / "flrc.json").stat().st_mtime_ns
    run(config)
    assert (folder / "model" / "flrc.json").stat().st_mtime_ns == modified

    # A conversation: two turns, a new one, the end of the input.
    monkeypatch.setattr("sys.stdin", io.StringIO("hello there\nand then?\n/new\nhello there\n"))
    assert main([str(folder), "--max-new-tokens", "12", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("parameters in use") == 3
    assert "80% of the target parameters" in shown
    assert "60% of the target parameters" in shown
    assert "from step 7" in shown


def test_static_cache_gives_the_same_text(make_model: Any, tokenizer: Any) -> None:
    model = make_model()
    _, plans = built(model, TwoFactor(), Progressive(), False, False)
    decoder = Decoder(model, tokenizer, plans)
    ids = torch.randint(0, 250, (2, 9), generator=torch.Generator().manual_seed(1))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 10}
    seen: list[int] = []
    plain = decoder.generate(**given, on_switch=lambda step, _: seen.append(step))
    assert seen == [0, 5]
    assert torch.equal(decoder.generate(**given, cache_implementation="static"), plain)


def damaged(folder: Path, how: str) -> None:
    (tensors,) = folder.glob("*.safetensors")
    described = json.loads((folder / "flrc.json").read_text())
    if how == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif how == "gone":
        tensors.unlink()
    elif how == "rank":
        layer = next(iter(described["layers"].values()))
        layer["rows"]["right"]["count"] += 1
    elif how == "kind":
        next(iter(described["layers"].values()))["kind"] = "unknown"
    elif how == "rows":
        next(iter(described["layers"].values()))["rows"]["right"]["kind"] = "unknown"
    elif how == "format":
        described["format"] = 99
    elif how == "layer":
        described["layers"].popitem()
    described["digest"] = described_digest(described)  # not what is tested here
    (folder / "flrc.json").write_text("{" if how == "json" else json.dumps(described))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is truncated"),
        ("gone", "is missing"),
        ("rank", "description is damaged"),
        ("layer", "do not fit its description"),
        ("kind", "description is damaged"),
        ("rows", "description is damaged"),
        ("format", "format 99"),
        ("json", "cannot be read"),
    ],
)
def test_what_is_damaged_is_refused(
    how: str, message: str, make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model = make_model()
    _targets, plans = built(model, TwoFactor(), Constant(), False, False)
    save(Loaded(model, tokenizer, plans), tmp_path / "model")
    damaged(tmp_path / "model", how)
    with pytest.raises(UserError, match=message):
        flrc.load(tmp_path / "model")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every entry of nested JSON, by the keys that lead to it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, one in inside:
        found.append((*path, key))
        if isinstance(one, dict | list):
            found += places(one, (*path, key))
    return found


@pytest.mark.parametrize("value", [None, -1, "x", {}, 1e9])
def test_an_odd_description_is_refused_or_makes_no_difference(
    value: Any, make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    """Any entry of flrc.json exchanged for something else: never a traceback of ours."""
    model = make_model("tiny_qwen2")
    _targets, plans = built(model, Pivoted(), Progressive(), True, True)
    ids = torch.arange(9)[None]
    expected = model(input_ids=ids).logits
    folder = tmp_path / "model"
    save(Loaded(model, tokenizer, plans), folder)
    text = (folder / "flrc.json").read_text()
    every = places(json.loads(text))
    chosen = [*every[:3], *every[3 : len(every) : max(1, len(every) // 15)]]
    refused = 0
    for path in chosen:
        described = json.loads(text)
        inner = described
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        if path[0] != "digest":
            described["digest"] = described_digest(described)
        (folder / "flrc.json").write_text(json.dumps(described))
        try:
            loaded = load(folder, CPU)
        except UserError:
            refused += 1
        else:
            assert loaded.model(input_ids=ids).logits.shape == expected.shape, path
    assert refused >= 5


def test_no_checkpoint_at_all(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(UserError, match=r"model\.save=true"):
        flrc.load(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert "model.save=true" in capsys.readouterr().err


def test_the_package_imports_nothing_heavy() -> None:
    program = "import sys, flrc; assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
