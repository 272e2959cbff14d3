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
from flrc.models.checkpoints.manifest import listed, manifest_digest
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
    assert base.hidden_size == ours.config.hidden_size
    assert torch.equal(theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits)
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
    assert torch.equal(theirs(input_ids=IDS).logits, ours(input_ids=IDS).logits)
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
    """And no warning about an unsupported model."""
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


REGISTERED = """
import sys
import flrc
assert "torch" not in sys.modules
assert "transformers" not in sys.modules
assert not any("flrc" in type(finder).__module__ for finder in sys.meta_path)
flrc.register()
from transformers import AutoModelForCausalLM
print(len(AutoModelForCausalLM.from_pretrained(sys.argv[1]).plans.phases))
"""


def test_after_registration_the_auto_classes_load_a_checkpoint(saved: Callable[..., Path]) -> None:
    folder = saved()
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(flrc.load(folder, "cpu").plans.phases)


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
    compressed = flrc.load(folder, "cpu")
    difference = plain(input_ids=IDS).logits - compressed(input_ids=IDS).logits
    assert difference.abs().max() < 1e-3 * compressed(input_ids=IDS).logits.abs().max()
    AutoTokenizer.from_pretrained(tmp_path / "dense")
    assert export([str(folder), str(tmp_path / "dense")]) == 1
    assert "the folder is not empty" in capsys.readouterr().err


def reseal(folder: Path) -> None:
    """List the files as they are now."""
    files = {name: entry for name, entry in listed(folder).items() if name != "flrc.json"}
    rewrite(folder, lambda manifest: manifest.__setitem__("files", files))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the description, its digest with it."""
    described = json.loads((folder / "flrc.json").read_text())
    change(described)
    described["digest"] = manifest_digest(described)
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


@pytest.mark.parametrize("version", [2, 4, "3", None])
def test_another_format_is_refused(version: Any, saved: Callable[..., Path]) -> None:
    folder = saved()
    rewrite(folder, lambda manifest: manifest.__setitem__("format", version))
    with pytest.raises(UserError, match=rf"format that is not supported\n.*format {version!r}"):
        flrc.load(folder, "cpu")
    with pytest.raises(UserError, match="format that is not supported"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_checkpoint_without_its_vocabulary(saved: Callable[..., Path]) -> None:
    """transformers would make a tokenizer of three tokens."""
    folder = saved()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "LlamaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").unlink()
    reseal(folder)
    with pytest.raises(UserError, match="no vocabulary"):
        flrc.load(folder, "cpu")


FIRST = "A = 1\n"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("from flrc.first import A\nB = A\n", None),
        ("A = 2\n", "flrc.first and flrc.second both define A"),
        ("def A():\n    pass\n", "both define A"),
        ("from flrc.third import C\n", "imports flrc.third, which does not come before it"),
        ("from flrc import first\n", "imports flrc, which does not come before it"),
    ],
)
def test_modules_of_the_standalone_file_share_one_namespace(
    second: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docstring = f'"""Part of ``{standalone_code.NAME}``."""\n'
    for name, text in (("flrc.first", FIRST), ("flrc.second", second)):
        (tmp_path / name).write_text(docstring + text)
    monkeypatch.setattr(standalone_code, "MODULES", ("flrc.first", "flrc.second"))
    monkeypatch.setattr(standalone_code, "_path", lambda module: tmp_path / module)
    source = standalone_code.source.__wrapped__
    if message is None:
        assert source().endswith("B = A\n")
    else:
        with pytest.raises(ValueError, match=message):
            source()
    (tmp_path / "flrc.second").write_text("B = 1\n")
    with pytest.raises(ValueError, match=r"docstring of flrc\.second does not name modeling_flrc"):
        source()
