"""Checkpoints changed by an attacker, with digests recomputed where that helps."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KINDS, built
from safetensors.torch import load_file, save_file
from tiny import ROOT

import flrc
from flrc.errors import UserError
from flrc.models.checkpoints.checkpoint import Loaded, save
from flrc.models.checkpoints.manifest import listed, manifest_digest
from flrc.models.sources.local import Local

IDS = torch.arange(9)[None]
DEEP = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.fixture(scope="module")
def original(
    make_model: Callable[..., Any], tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved checkpoint, of which every test gets a copy."""
    model = make_model()
    _, plans = built(model, *KINDS[0])
    save(Loaded(model, tokenizer, plans), path := tmp_path_factory.mktemp("saved") / "model")
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "model")


def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """List the files as they are now, change the description, and make its digest fit."""
    described = json.loads((folder / "flrc.json").read_text())
    if "files" in described:
        described["files"] = {k: v for k, v in listed(folder).items() if k != "flrc.json"}
    change(described)
    if "digest" in described:
        described["digest"] = manifest_digest(described)
    (folder / "flrc.json").write_text(json.dumps(described))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


CODE = """
raise SystemExit("code of the folder was run")
from transformers import LlamaConfig as C, LlamaForCausalLM as M, PreTrainedTokenizerFast as T
"""
AUTO = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T"] * 2}


@pytest.mark.parametrize("kind", ["nope", "llama", "flrc", None, ["llama"]])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_no_code_of_the_folder_is_run(
    name: str, kind: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when the user types y, which is what transformers asks for."""
    for code in ("evil.py", "modeling_flrc.py"):
        (folder / code).write_text(CODE)
    edit(folder / name, auto_map=AUTO)
    if name == "config.json":
        edit(folder / name, model_type=kind)
    else:
        edit(folder / name, tokenizer_class=kind)
    reseal(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    try:
        flrc.load(folder, "cpu")
    except UserError as error:
        assert name in str(error)  # noqa: PT017
    else:
        assert (name, kind) == ("config.json", "flrc")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_no_code_of_a_dense_model_is_run(
    name: str, make_model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor that of the model to be compressed."""
    make_model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "evil.py").write_text(CODE)
    kind = {"model_type": "nope"} if name == "config.json" else {"tokenizer_class": "nope"}
    edit(tmp_path / name, auto_map=AUTO, **kind)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    source = Local(path=str(tmp_path))
    with pytest.raises(UserError, match="cannot be loaded"):
        source.config() if name == "config.json" else source.tokenizer()


@pytest.mark.parametrize("kind", ["llama", "nope", None, 5, "bert"])
def test_the_config_is_of_the_type_of_compressed_models(kind: Any, folder: Path) -> None:
    edit(folder / "config.json", model_type=kind)
    reseal(folder)
    with pytest.raises(UserError, match=r"config\.json"):
        flrc.load(folder, "cpu")


UNLISTED = {
    "special_tokens_map.json": '{"eos_token": "evil"}',
    "added_tokens.json": '{"evil": 260}',
    "chat_template.jinja": "evil {{ messages }}",
    "chat_template.json": '{"chat_template": "evil"}',
    "additional_chat_templates/evil.jinja": "evil",
    "custom_generate/generate.py": "evil",
    "adapter_config.json": '{"base_model_name_or_path": "evil/x"}',
    "processor_config.json": "{}",
    "model.safetensors.index.json": '{"weight_map": {"a": "../../x"}}',
    "more.safetensors": "x",
    "pytorch_model.bin": "x",
    "tokenizer.model": "x",
    "vocab.txt": "x",
    "evil.py": "x",
    "a.gguf": "x",
}


@pytest.mark.parametrize("name", UNLISTED)
def test_what_is_not_listed_is_refused(name: str, folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    reseal(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(UNLISTED[name])
    with pytest.raises(UserError, match=f"file {name.split('/')[0]} is not listed"):
        flrc.load(folder, "cpu")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_what_was_struck_from_the_list_is_refused(name: str, folder: Path) -> None:
    reseal(folder, lambda described: described["files"].pop(name))
    with pytest.raises(UserError, match=f"file {name} is not listed"):
        flrc.load(folder, "cpu")


def test_what_no_loader_reads_may_lie_there(folder: Path) -> None:
    expected = flrc.load(folder, "cpu")(input_ids=IDS).logits
    for name in ("README.md", "LICENSE", ".gitattributes", ".git/config", "curve.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert torch.equal(flrc.load(folder, "cpu")(input_ids=IDS).logits, expected)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "5", "null", '{"a": ', DEEP, b"\xff\xff", "folder", "pipe", "loop", "gone"],
    ids=lambda content: str(content)[:9],
)
@pytest.mark.parametrize(
    "name",
    ["flrc.json", "config.json", "generation_config.json", "tokenizer_config.json",
     "tokenizer.json", "model.safetensors"],
)  # fmt: skip
def test_no_file_of_its_kind(name: str, content: str | bytes, folder: Path) -> None:
    """Rejected with its name; reading a pipe would wait forever."""
    path = folder / name
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content == "loop":
        path.symlink_to(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content != "gone":
        path.write_text(content)
    if name != "flrc.json":
        reseal(folder)
    if (name, content) == ("generation_config.json", "gone"):
        assert flrc.load(folder, "cpu")  # not every model has one
        return
    told = "(tensors|safetensors)" if name == "model.safetensors" else name.replace(".", r"\.")
    with pytest.raises(UserError, match=told):
        flrc.load(folder, "cpu")


@pytest.mark.parametrize(
    "dtype", ["nn", "int8", "Tensor", "complex64", "float8_e4m3fn", "dtype", "finfo", 7, None, []]
)
def test_an_unknown_dtype(dtype: Any, folder: Path) -> None:
    reseal(folder, lambda described: described.__setitem__("dtype", dtype))
    with pytest.raises(UserError, match=r"flrc\.json is damaged\n.*dtype"):
        flrc.load(folder, "cpu")


@pytest.mark.parametrize(
    "values",
    [
        {"base_model_type": "bert"},
        {"base_model_type": "t5"},
        {"base_model_type": "flrc"},
        {"base_model_type": ["llama"]},
        {"base_model_type": None},
        {"hidden_size": "x"},
        {"hidden_size": 0},
        {"hidden_size": -1},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -1},
        {"vocab_size": 10**15},
        {"vocab_size": 10**30},
        {"rms_norm_eps": "x"},
        {"hidden_act": "x"},
        {"rope_parameters": 5},
        {"pad_token_id": 10**6},
        {"layer_types": ["a"]},
        {"return_dict": False},
        {"sliding_window": 1.5},
        {"layer_types": "full_attention"},
        {"_attn_implementation": "x"},
        {"dtype": "nn"},
    ],
    ids=str,
)
def test_a_config_that_makes_no_such_model(values: dict[str, Any], folder: Path) -> None:
    expected = flrc.load(folder, "cpu")(input_ids=IDS).logits
    edit(folder / "config.json", **values)
    reseal(folder)
    try:
        logits = flrc.load(folder, "cpu")(input_ids=IDS).logits
    except UserError as error:
        assert "config.json" in str(error) or "tensors do not fit" in str(error)  # noqa: PT017
    else:
        assert next(iter(values)) in ("_attn_implementation", "dtype")
        assert torch.equal(logits, expected)


@pytest.mark.parametrize(
    "values",
    [
        {"max_length": "x"},
        {"eos_token_id": "x"},
        {"eos_token_id": [[1]]},
        {"eos_token_id": 10**20},
        {"eos_token_id": True},
        {"temperature": "x"},
        {"num_beams": 1.5},
        {"do_sample": 1},
        {"cache_implementation": "evil"},
        {"cache_implementation": {}},
        {"early_stopping": []},
        {"compile_config": 5},
    ],
    ids=str,
)
def test_odd_settings_for_generating(values: dict[str, Any], folder: Path) -> None:
    edit(folder / "generation_config.json", **values)
    reseal(folder)
    with pytest.raises(UserError, match=r"generation_config\.json is damaged"):
        flrc.load(folder, "cpu")


def plan_of(described: dict[str, Any]) -> dict[str, Any]:
    ranks: dict[str, Any] = described["plans"]["constant"]["ranks"]
    return ranks


PLANS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a rank that is not an integer": lambda d: plan_of(d).update({LAYER: True}),
    "a rank that is not held": lambda d: plan_of(d).update({LAYER: 10**30}),
    "a rank of nothing": lambda d: plan_of(d).update({"nothing": 3}),
    "a layer without a rank": lambda d: plan_of(d).pop(LAYER),
    "a phase of other targets": lambda d: d["plans"]["phases"][1]["plan"]["ranks"].update(
        {"nothing": None}
    ),
    "no phases": lambda d: d["plans"]["phases"].clear(),
    "phases reversed": lambda d: d["plans"]["phases"].reverse(),
    "a phase before the first": lambda d: d["plans"]["phases"][1].update(begin=-0.5),
    "a phase that never begins": lambda d: d["plans"]["phases"][1].update(begin=float("nan")),
    "a step that is not an integer": lambda d: d["plans"]["phases"][1].update(step=True),
}
LAYER = "model.layers.0.mlp.gate_proj"


@pytest.mark.parametrize("how", PLANS)
def test_plans_that_the_layers_cannot_run(how: str, folder: Path) -> None:
    reseal(folder, PLANS[how])
    with pytest.raises(UserError, match=r"file flrc\.json .*is damaged"):
        flrc.load(folder, "cpu")


def test_a_pivoted_order_that_is_not_a_permutation(
    make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path
) -> None:
    model = make_model()
    _, plans = built(model, *KINDS[3])
    save(Loaded(model, tokenizer, plans), tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    order = next(tensor for name, tensor in tensors.items() if name.endswith(".order"))
    order[0] = len(order) + 5
    save_file(tensors, path)
    reseal(tmp_path / "model")
    with pytest.raises(UserError, match="order is not a permutation"):
        flrc.load(tmp_path / "model", "cpu")


def test_a_template_that_cannot_be_applied(folder: Path) -> None:
    for template in ("{% for", "{{ messages[0].content.x.y }}", "{{ raise_exception('no') }}"):
        (folder / "chat_template.jinja").write_text(template)
        reseal(folder)
        model = flrc.load(folder, "cpu")
        with pytest.raises(UserError, match="chat template"):
            flrc.generate(model, "hello", max_new_tokens=2)


def test_a_link_to_a_file_is_a_file(folder: Path, tmp_path: Path) -> None:
    """As the hub's cache has them."""
    for path in sorted(folder.iterdir()):
        path.rename(tmp_path / f"blob_{path.name}")
        path.symlink_to(tmp_path / f"blob_{path.name}")
    flrc.load(folder, "cpu")


def test_refusing_imports_no_torch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from flrc.models.checkpoints.manifest import read_manifest; "
        "read_manifest(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
