"""A saved compressed model: the same logits, bytes and text again, and clear errors."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KINDS, built
from tiny import ROOT
from transformers import AutoConfig, AutoModelForCausalLM

import flrc
from flrc.chat import main
from flrc.errors import UserError
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.models.checkpoints.checkpoint import Loaded, load, save
from flrc.models.checkpoints.manifest import RECORD, manifest_digest
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.sizes import stored_bytes
from flrc.models.layers.switching import activate
from flrc.pipeline import run
from flrc.running.identity import run_folder
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
    # Nothing is stored twice: the files are the bytes of the model and a header.
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
    with pytest.raises(UserError, match="does not support this option"):
        flrc.generate(model, "hello", assistant_model=None)
    # A saved run is done; a run that was not saved is completed without another evaluation.
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


MORE_BASES: dict[str, dict[str, Any]] = {
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 128},
    "gpt_neox": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2},
}


@pytest.mark.parametrize("kind", MORE_BASES)
def test_configs_that_only_transformers_can_write(
    kind: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Integer keys, configs within configs (MPT's attention), and infinity."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=260, **MORE_BASES[kind])
    config.far = {1: 2, 3: float("inf")}
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    _, plans = built(model, *KINDS[0])
    save(Loaded(model, tokenizer, plans), tmp_path / "model")
    again = load(tmp_path / "model", CPU).model
    assert again.config.far == {"1": 2, "3": float("inf")}
    ids = torch.arange(40)[None]
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_the_config_is_the_bases(
    shape: str, make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    model = make_model(shape)
    _, plans = built(model, *KINDS[0])
    save(Loaded(model, tokenizer, plans), tmp_path / "model")
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    expected = model.config.to_diff_dict()
    assert written.pop("base_model_type") == expected["model_type"]
    assert [key for key in written if key in expected] == list(expected)
    ours = {"model_type", "architectures", "auto_map"}
    assert all(written[key] == value for key, value in expected.items() if key not in ours)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_advised_repair_repairs(run_config: Callable[..., Any]) -> None:
    """A finished run is not done while its checkpoint is damaged in any way."""
    config = run_config("method=svdllm", "rate=0.3", "model.save=true")
    record = run(config)
    folder = run_folder(config).model

    def contents() -> dict[str, bytes]:
        # The record names the time of the run.
        return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != RECORD}

    expected = contents()
    assert "README.md" in expected
    damages: list[Callable[[], object]] = [
        lambda: (folder / "flrc.json").unlink(),
        lambda: (folder / "flrc.json").write_text("{}"),
        lambda: (folder / "config.json").unlink(),
        lambda: flipped(folder / "model.safetensors"),
        lambda: (folder / "tokenizer.json").write_text("{"),
        lambda: (folder / "added_tokens.json").write_text("{}"),
        lambda: shutil.rmtree(folder),
        lambda: folder.rename(folder.with_name(".model.old")),  # killed while it was replaced
    ]
    for damage in damages:
        damage()
        with pytest.raises(UserError, match=r"model\.save=true|remove it"):
            flrc.load(folder, "cpu")
        again = run(config)
        assert again.run["status"] == "ok", again.run
        assert again.results["measurements"] == record.results["measurements"]
        assert contents() == expected
        assert (folder / RECORD).is_file()
        assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".model")] == []


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
    described["digest"] = manifest_digest(described)  # not what is tested here
    (folder / "flrc.json").write_text("{" if how == "json" else json.dumps(described))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is truncated"),
        ("gone", "is missing"),
        ("rank", "file flrc.json or config.json is damaged"),
        ("layer", "do not fit its description"),
        ("kind", "file flrc.json or config.json is damaged"),
        ("rows", "file flrc.json or config.json is damaged"),
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
    """Any entry of flrc.json replaced by something else: never a traceback from this package."""
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
            described["digest"] = manifest_digest(described)
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
