"""Checkpoints with random changes: rejected with the file and the reason, or the same model."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KINDS, built
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flrc.errors import UserError
from flrc.library.generation import generate
from flrc.models.checkpoints.checkpoint import Loaded, load, save
from flrc.models.checkpoints.manifest import listed, manifest_digest

CPU = torch.device("cpu")
IDS = torch.arange(9)[None]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    7,
    10**9,
    1.5,
    float("inf"),
    "",
    "x",
    "float32",
    "__class__",
    "../../model.safetensors",
    [],
    [1],
    {},
    {"kind": "x"},
]

fuzz = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=[0, 2, 5, 7])
def saved(request: Any, make_model: Any, tokenizer: Any, tmp_path: Path) -> tuple[Path, Any]:
    """A checkpoint of one of the kinds, and the logits of its model."""
    model = make_model()
    _, plans = built(model, *KINDS[request.param])
    save(Loaded(model, tokenizer, plans), tmp_path / "saved")
    return tmp_path / "saved", model(input_ids=IDS).logits


def opened(folder: Path, refused: list[str]) -> Any:
    """The model's logits, or None and the message if it is rejected."""
    try:
        return load(folder, CPU).model(input_ids=IDS).logits
    except UserError as error:
        refused.append(str(error))
        return None


def mutate(data: st.DataObject, values: Any, others: list[Any]) -> None:
    """Replace one to three entries of nested JSON by something else, or delete them."""
    for _ in range(data.draw(st.integers(1, 3))):
        inner = values
        while True:
            keys = sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(inner[key], dict | list) or data.draw(st.integers(0, 9)) == 0:
                if data.draw(st.booleans()) or isinstance(inner, list):
                    inner[key] = copy.deepcopy(data.draw(st.sampled_from(others)))
                else:
                    del inner[key]
                break
            inner = inner[key]


def test_files(share: float, saved: tuple[Path, Any], tmp_path: Path) -> None:
    """Bytes of any file changed, removed or added; files removed, replaced or added."""
    folder, expected = saved
    names = sorted(path.name for path in folder.iterdir())
    refused: list[str] = []
    asked: list[str] = []

    @settings(fuzz, max_examples=int(80 * share))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        spoiled = tmp_path / "copy"
        shutil.rmtree(spoiled, ignore_errors=True)
        shutil.copytree(folder, spoiled)
        name = data.draw(st.sampled_from(names))
        path, content = spoiled / name, (folder / name).read_bytes()
        how = data.draw(st.sampled_from(["byte", "cut", "longer", "gone", "other", "new", "link"]))
        if how == "byte":
            at = data.draw(st.integers(0, len(content) - 1))
            path.write_bytes(content[:at] + data.draw(st.binary(max_size=4)) + content[at + 1 :])
        elif how == "cut":
            path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        elif how == "longer":
            path.write_bytes(content + data.draw(st.binary(min_size=1, max_size=9)))
        elif how == "gone":
            path.unlink()
        elif how == "other":
            path.write_bytes((folder / data.draw(st.sampled_from(names))).read_bytes())
        elif how == "new":
            name = data.draw(st.sampled_from(["a.safetensors", "x.bin", "pytorch_model.bin"]))
            (spoiled / name).write_bytes(data.draw(st.binary(max_size=40)))
        else:
            path.unlink()
            path.symlink_to(folder)
        asked.append(name)
        before = len(refused)
        logits = opened(spoiled, refused)
        if logits is None:
            assert name in refused[before], refused[before]
        else:
            assert torch.equal(logits, expected)
            unchanged = path.is_file() and path.read_bytes() == content
            # What a description without digests would have said, json.loads may not notice.
            assert unchanged or name == "flrc.json"

    check()
    assert len(refused) >= 40 * share


def test_manifests(share: float, saved: tuple[Path, Any]) -> None:
    """Any entries of flrc.json replaced and its digest recomputed, as an attacker would."""
    folder, expected = saved
    path = folder / "flrc.json"
    text = path.read_text()
    refused: list[str] = []

    @settings(fuzz, max_examples=int(80 * share))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        described = json.loads(text)
        mutate(data, described, VALUES)
        described["digest"] = manifest_digest(described)
        path.write_text(json.dumps(described))
        logits = opened(folder, refused)
        assert logits is None or logits.shape == expected.shape

    check()
    assert len(refused) >= 40 * share
    assert all("flrc.json" in told or "file" in told or str(folder) in told for told in refused)


def test_headers(share: float, saved: tuple[Path, Any]) -> None:
    """A safetensors header that lies about names, shapes and places, resealed."""
    folder, expected = saved
    path = folder / "flrc.json"
    described = json.loads(path.read_text())
    (tensors,) = folder.glob("*.safetensors")
    content = tensors.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    refused: list[str] = []

    @settings(fuzz, max_examples=int(40 * share))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        changed = json.loads(json.dumps(header))
        name = data.draw(st.sampled_from(sorted(set(changed) - {"__metadata__"})))
        how = data.draw(st.sampled_from(["shape", "dtype", "data_offsets", "name", "length"]))
        length = None
        if how == "name":
            changed[data.draw(st.sampled_from(["x", "lm_head.weight", ""]))] = changed.pop(name)
        elif how == "length":
            length = data.draw(st.sampled_from([0, 1, size - 1, size + 1, 2**40, 2**63]))
        else:
            values = [[], [1], [0, 8], [8, 0], [2**62, 2**62], -1, "F32", "F16", "I8", None]
            changed[name][how] = data.draw(st.sampled_from(values))
        encoded = json.dumps(changed).encode()
        shown = len(encoded) if length is None else length
        tensors.write_bytes(shown.to_bytes(8, "little") + encoded + content[8 + size :])
        described["files"] |= {tensors.name: listed(folder)[tensors.name]}
        described["digest"] = manifest_digest(described)
        path.write_text(json.dumps(described))
        logits = opened(folder, refused)
        assert logits is None or torch.equal(logits, expected)

    check()
    assert len(refused) >= 20 * share


NESTED: Any = []
for _ in range(200):
    NESTED = [NESTED]
MORE = [
    *(value for value in VALUES if value != 10**9),  # such a width would fill the memory
    10**5, 10**20, 1e-300, -1.5, "eager", "llama", "flrc", "{{ x", "\ud800", "<s>", ["x"], [[1]],
    {"x": 1}, {"type": "x"}, {"content": "x"}, NESTED,
]  # fmt: skip
KNOWN: dict[str, list[str]] = {
    "config.json": ["layer_types", "rope_parameters", "_attn_implementation", "quantization_config",
                    "is_decoder", "add_cross_attention", "pruned_heads", "id2label", "dtype",
                    "torch_dtype", "tokenizer_class", "sliding_window", "text_config", "head_dim",
                    "attention_dropout", "use_cache", "return_dict", "output_attentions"],
    "generation_config.json": ["eos_token_id", "temperature", "num_beams", "cache_implementation",
                               "cache_config", "max_length", "do_sample", "suppress_tokens",
                               "early_stopping", "watermarking_config", "compile_config"],
    "tokenizer_config.json": ["tokenizer_class", "auto_map", "chat_template", "legacy",
                              "extra_special_tokens", "added_tokens_decoder",
                              "model_max_length", "pad_token", "backend",
                              "padding_side", "add_prefix_space", "model_input_names",
                              "additional_special_tokens", "tokenizer_file"],
    "tokenizer.json": ["normalizer", "truncation", "padding"],
    "flrc.json": [],
}  # fmt: skip
"""Keys that loaders know and that need not be there: added as often as others are exchanged."""


@pytest.mark.parametrize("name", KNOWN)
def test_contents(name: str, share: float, make_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """File contents replaced and all digests recomputed: rejected, or a model that runs.

    It may be another model: whoever can recompute digests can put any model there.
    """
    model = make_model()
    _, plans = built(model, *KINDS[0])
    folder = tmp_path / "saved"
    save(Loaded(model, tokenizer, plans), folder)
    texts = {path: path.read_text() for path in folder.glob("*.json")}
    path = folder / name
    refused: list[str] = []
    cases = ran = 0

    @settings(fuzz, max_examples=int(100 * share))
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        nonlocal cases, ran
        content = json.loads(texts[path])
        if name == "flrc.json" and data.draw(st.integers(0, 9)) == 0:
            pass  # resealed as it was: few changed plans still run
        elif name == "flrc.json":
            mutate(data, content["plans"], [*MORE, *range(1, 17), 0.0, 0.1, 0.3, 0.9])
        elif KNOWN[name] and data.draw(st.booleans()):
            key = data.draw(st.sampled_from(KNOWN[name]))
            content[key] = copy.deepcopy(data.draw(st.sampled_from(MORE)))
        else:
            mutate(data, content, MORE)
        path.write_text(json.dumps(content))
        described = content if name == "flrc.json" else json.loads(texts[folder / "flrc.json"])
        if name != "flrc.json":
            described["files"][name] = listed(folder)[name]
        try:
            described["digest"] = manifest_digest(described)
        except UnicodeEncodeError:  # nobody can reseal what has no digest
            described["digest"] = ""
        (folder / "flrc.json").write_text(json.dumps(described))
        cases += 1
        try:
            loaded = load(folder, CPU)
            assert loaded.model(input_ids=IDS).logits.shape[:2] == IDS.shape
            generate(loaded, "hello", max_new_tokens=3)
            ran += 1
        except UserError as error:
            refused.append(str(error))

    check()
    assert cases >= 100 * share
    assert len(refused) >= 10 * share
    assert ran >= 1
