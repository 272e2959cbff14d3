"""Compressed checkpoints under transformers' own names, with this package and without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KINDS, built
from tiny import ROOT
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

import flrc
from flrc.errors import UserError
from flrc.export import main as export
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.models.checkpoints import standalone_code
from flrc.models.checkpoints.checkpoint import Loaded, save
from flrc.models.checkpoints.manifest import described_digest
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive

IDS = torch.arange(3, 23)[None]


@pytest.fixture
def saved(make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path) -> Callable[..., Path]:
    def make(
        shape: str = "tiny_llama_gqa",
        form: Form | None = None,
        schedule: Any = None,
        shared: bool = False,
        int8: bool = False,
    ) -> Path:
        model = make_model(shape)
        _targets, plans = built(model, form or TwoFactor(), schedule or Progressive(), shared, int8)
        save(Loaded(model, tokenizer, plans), tmp_path / "model")
        return tmp_path / "model"

    return make


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_auto_classes_load_what_flrc_loads(shape: str, saved: Callable[..., Path]) -> None:
    folder = saved(shape)
    ours = flrc.load(folder, "cpu")
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    base = AutoConfig.from_pretrained(folder)
    assert base.model_type == "flrc"
    assert base.hidden_size == ours.model.config.hidden_size
    assert torch.equal(theirs(input_ids=IDS).logits, ours.model(input_ids=IDS).logits)
    assert not any(p.requires_grad for p in theirs.parameters())

    reply = theirs.generate(IDS, max_new_tokens=12, do_sample=False)
    text = ours.tokenizer.decode(IDS[0])
    assert text
    decoded = flrc.library.generation.decoder_of(ours).generate(
        input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=12
    )
    assert torch.equal(reply[:, IDS.shape[1] :], decoded)
    # The schedule was followed: one rank throughout gives another reply.
    constant = theirs.generate_at_one_rank(IDS, max_new_tokens=12, do_sample=False)
    assert not torch.equal(constant, reply)
    # It ended on the constant plan, and max_length says as much as max_new_tokens.
    assert torch.equal(theirs(input_ids=IDS).logits, ours.model(input_ids=IDS).logits)
    longest = IDS.shape[1] + 12
    assert torch.equal(theirs.generate(IDS, max_length=longest, do_sample=False), reply)


def test_what_cannot_follow_a_schedule_is_refused(saved: Callable[..., Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved())
    for options in ({"num_beams": 2}, {"prompt_lookup_num_tokens": 2}):
        with pytest.raises(ValueError, match="cannot follow a schedule"):
            model.generate(IDS, max_new_tokens=4, **options)
    with pytest.raises(NotImplementedError, match=r"flrc\.export"):
        model.save_pretrained("nowhere")


def test_without_a_schedule_beams_are_searched(saved: Callable[..., Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved(form=Pivoted(), schedule=Constant()))
    assert model.generate(IDS, max_new_tokens=4, num_beams=2).shape[1] > IDS.shape[1]


def test_dtype_and_device_map(saved: Callable[..., Path]) -> None:
    folder = saved()
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    half = AutoModelForCausalLM.from_pretrained(folder, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    placed = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", device_map="cpu")
    assert {p.dtype for p in placed.parameters()} == {torch.float32}
    split = AutoModelForCausalLM.from_pretrained(
        folder, device_map={"model.embed_tokens": "cpu", "model": "cpu", "lm_head": "cpu"}
    )
    assert torch.equal(split(input_ids=IDS).logits, placed(input_ids=IDS).logits)
    inside = AutoModelForCausalLM.from_pretrained(folder.parent, subfolder=folder.name)
    assert torch.equal(inside(input_ids=IDS).logits, placed(input_ids=IDS).logits)
    for unknown in ("nn", "int8", "float8_e4m3fn"):
        with pytest.raises(UserError, match="dtype has no option"):
            AutoModelForCausalLM.from_pretrained(folder, dtype=unknown)
    with pytest.raises(ValueError, match="evil"):
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation="evil")
    with pytest.raises(TypeError, match="state_dict"):
        AutoModelForCausalLM.from_pretrained(folder, state_dict={})
    with pytest.raises(TypeError, match="load_in_8bit"):
        AutoModelForCausalLM.from_pretrained(folder, load_in_8bit=True)


def test_pipelines_give_the_same_text(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no word of a model that is not supported."""
    monkeypatch.setattr("transformers.pipelines.base.logger.error", pytest.fail)
    folder = saved()
    ours = flrc.load(folder, "cpu")
    writer = pipeline("text-generation", model=str(folder), device="cpu")
    (found,) = writer("hello there", max_new_tokens=12, do_sample=False, return_full_text=False)
    ids = ours.tokenizer("hello there", return_tensors="pt")
    reply = flrc.library.generation.decoder_of(ours).generate(
        input_ids=ids["input_ids"], attention_mask=ids["attention_mask"], max_new_tokens=12
    )
    assert found["generated_text"] == ours.tokenizer.decode(reply[0], skip_special_tokens=True)


STRANGER = """
import json, sys
sys.modules["flrc"] = None  # as if it were not installed
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
ids = torch.arange(3, 23)[None]
reply = model.generate(ids, max_new_tokens=12, do_sample=False)
print(json.dumps([model(input_ids=ids).logits.double().sum().item(), reply[0].tolist()]))
"""


@pytest.mark.parametrize(
    ("form", "schedule", "shared", "int8"),
    [(TwoFactor(), Progressive(), True, True), (Pivoted(), Progressive(), True, False)],
)
def test_remote_code_needs_no_flrc(
    form: Form,
    schedule: Any,
    shared: bool,
    int8: bool,
    saved: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = saved("tiny_qwen2", form, schedule, shared, int8)
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder)],
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    total, reply = json.loads(done.stdout.splitlines()[-1])
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert total == pytest.approx(model(input_ids=IDS).logits.double().sum().item(), rel=1e-9)
    assert reply == model.generate(IDS, max_new_tokens=12, do_sample=False)[0].tolist()


def test_transformers_is_told_whichever_is_imported_first() -> None:
    program = """
import sys
if sys.argv[1] == "first": import flrc
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
if sys.argv[1] == "last": import flrc
assert "flrc" in CONFIG_MAPPING
import importlib
assert type(importlib.import_module("transformers.models.auto.modeling_auto").__spec__.loader).__name__ == "SourceFileLoader"
"""  # noqa: E501
    for order in ("first", "last"):
        done = subprocess.run(
            [sys.executable, "-c", program, order], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_the_modelling_file_is_whole_and_made_of_our_modules() -> None:
    text = standalone_code.source()
    compile(text, standalone_code.NAME, "exec")
    assert "import flrc" not in text
    assert "from flrc" not in text
    assert "jaxtyping" not in text.replace("# From", "")
    for name in ("class PivotedLinear", "class Int8Rows", "class FlrcForCausalLM"):
        assert text.count(name) == 1


@pytest.mark.parametrize(("form", "schedule", "shared", "int8"), KINDS)
def test_the_dense_export_loads_anywhere(
    form: Form,
    schedule: Any,
    shared: bool,
    int8: bool,
    saved: Callable[..., Path],
    tmp_path: Path,
    capsys: Any,
) -> None:
    folder = saved("tiny_qwen2", form, schedule, shared, int8)
    assert export([str(folder), str(tmp_path / "dense")]) == 0
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "dense")
    assert type(plain).__module__.startswith("transformers.")
    assert not low_rank_layers(plain)
    assert "flrc" not in (tmp_path / "dense" / "config.json").read_text().lower()
    compressed = flrc.load(folder, "cpu").model
    difference = plain(input_ids=IDS).logits - compressed(input_ids=IDS).logits
    assert difference.abs().max() < 1e-3 * compressed(input_ids=IDS).logits.abs().max()
    AutoTokenizer.from_pretrained(tmp_path / "dense")
    assert export([str(folder), str(tmp_path / "dense")]) == 1
    assert "there is something in that folder" in capsys.readouterr().err


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the description, its digest with it."""
    described = json.loads((folder / "flrc.json").read_text())
    change(described)
    described["digest"] = described_digest(described)
    (folder / "flrc.json").write_text(json.dumps(described))


def test_a_file_that_is_not_what_was_saved_is_named(saved: Callable[..., Path]) -> None:
    folder = saved()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "modeling_flrc.py"):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=f"file {name} is truncated: {len(whole) - 1} bytes"):
            flrc.load(folder)
        changed = bytearray(whole)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match=rf"file {name} was changed"):
            AutoModelForCausalLM.from_pretrained(folder)
        path.unlink()
        with pytest.raises(UserError, match=f"file {name} is missing"):
            flrc.load(folder)
        path.write_bytes(whole)
    flrc.load(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/hostname", "..", "a/b", ""])
def test_a_listed_file_lies_in_the_folder(name: str, saved: Callable[..., Path]) -> None:
    folder = saved()
    known = {"bytes": 1, "sha256": "0"}
    rewrite(folder, lambda described: described["files"].__setitem__(name, known))
    with pytest.raises(UserError, match="is not in its folder"):
        flrc.load(folder)


def test_format_2_is_still_read(saved: Callable[..., Path]) -> None:
    """It listed no files, and its config was the base's."""
    folder = saved()
    expected = flrc.load(folder, "cpu").model(input_ids=IDS).logits
    described = json.loads((folder / "flrc.json").read_text())
    for key in ("files", "digest"):
        described.pop(key)
    (folder / "flrc.json").write_text(json.dumps(described | {"format": 2}))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = config.pop("base_model_type")
    config.pop("auto_map")
    (folder / "config.json").write_text(json.dumps(config))
    again = flrc.load(folder, "cpu")
    assert torch.equal(again.model(input_ids=IDS).logits, expected)
    assert flrc.generate(again, "hello", max_new_tokens=4) is not None


def test_an_old_checkpoint_without_its_vocabulary(saved: Callable[..., Path]) -> None:
    """Format 2 lists no files, and transformers makes a tokenizer of three tokens."""
    folder = saved()
    described = json.loads((folder / "flrc.json").read_text())
    for key in ("files", "digest"):
        described.pop(key)
    (folder / "flrc.json").write_text(json.dumps(described | {"format": 2}))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "LlamaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no vocabulary"):
        flrc.load(folder, "cpu")
