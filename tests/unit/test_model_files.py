"""A saved model consists of the files that loading reads: their contents make its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from saved_models import WEIGHTS, saved
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.tokenization_auto import (
    TOKENIZER_MAPPING_NAMES,
    tokenizer_class_from_name,
)

from flrc.models.checkpoints.model_files import VOCABULARY, model_files, vocabulary_files
from flrc.models.sources.local import Local
from flrc.models.sources.packaged import Packaged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


def fingerprint(path: Path) -> str:
    return Local(path=str(path)).fingerprint()


def test_what_save_pretrained_writes_keeps_its_fingerprint(folder: Path) -> None:
    """That of all files, by the formula under which earlier runs have their ids."""
    lines = [
        f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    assert len(lines) == 6
    assert fingerprint(folder) == hashlib.sha256("\n".join(lines).encode()).hexdigest()


UNREAD = (
    "runs/model/svd-uniform-constant-r0.2-0/record.json", "out.1", "README.md", "picture.png",
    ".gitattributes", ".git/config", "original/consolidated.pth", "optimizer.pt", "notes.json",
    "training_args.bin", "model.gguf", "pytorch_model.bin", "model.safetensors.index.json",
    "vocab_plot.png", "vocabulary.md", "vocab_sizes.json", "word_counts.json", "lid.model",
    "trainer.model", "my_vocab.json", "tokenizer.model.bak",
    "tokenizer_old/tokenizer.json", "additional_chat_templates/notes.md", ".cache/x/config.json",
)  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_does_not_count(name: str, folder: Path) -> None:
    before = fingerprint(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    assert fingerprint(folder) == before


READ = (
    "config.json", "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "tokenizer.model.v3", "spiece.model", "tekken.json",
    "tiktoken.model", "tokenizer.4.0.json", "source.spm",
    "additional_chat_templates/tool.jinja",
)  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_is_read_counts(name: str, folder: Path) -> None:
    path = folder / name
    found = {fingerprint(folder)}
    path.parent.mkdir(exist_ok=True)
    for text in ("{}", '{"a": 1}'):
        path.write_text(text)
        found.add(fingerprint(folder))
    assert len(found) == 3


def test_the_present_folder_with_its_own_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = fingerprint(Path())
    (folder / "runs" / "x").mkdir(parents=True)
    (folder / "runs" / "x" / "record.json").write_text("{}")
    assert fingerprint(Path()) == before == fingerprint(folder)


def test_the_weights_that_from_pretrained_picks(tmp_path: Path) -> None:
    """Files are removed one by one; each time the fingerprint is that of the model that loads."""
    folder = saved(tmp_path / "model")
    sharded = saved(tmp_path / "sharded", shard="100KB", hidden_size=32)
    for path in sharded.glob("model*"):
        shutil.copy(path, folder)
    torch.save(AutoModelForCausalLM.from_pretrained(folder).state_dict(), folder / "w.bin")
    (folder / "w.bin").rename(folder / "pytorch_model.bin")

    def weights() -> list[str]:
        return [path.name for path in model_files(folder) if "model" in path.name]

    assert weights() == [WEIGHTS]
    (folder / WEIGHTS).unlink()
    assert weights() == sorted(path.name for path in folder.glob("model*"))
    placed = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(placed.values()) < set(weights())
    (folder / "config.json").write_text((sharded / "config.json").read_text())
    AutoModelForCausalLM.from_pretrained(folder)
    for path in folder.glob("model*"):
        path.unlink()
    assert weights() == ["pytorch_model.bin"]


def names_of_vocabularies() -> Iterator[tuple[str, str]]:
    for name in sorted({name for name in TOKENIZER_MAPPING_NAMES.values() if name}):
        made = tokenizer_class_from_name(name)
        for file in (getattr(made, "vocab_files_names", None) or {}).values():
            yield name, file


def test_every_tokenizer_of_transformers_is_known(tmp_path: Path) -> None:
    """By the names of the files that its class reads."""
    found = set(names_of_vocabularies())
    assert len({name for name, _ in found}) > 30
    for _, file in found - {(name, "tokenizer_config.json") for name, _ in found}:
        (tmp_path / file).touch()
        assert tmp_path / file in vocabulary_files(tmp_path), file


def test_only_what_tokenizers_read_is_a_vocabulary() -> None:
    """Beside what the library names elsewhere: its own formats, and those of Mistral and Llama."""
    known = {file for _, file in names_of_vocabularies()}
    elsewhere = {"tokenizer.*.json", "tokenizer.model.v*", "tekken.json", "tiktoken.model"}
    assert set(VOCABULARY) == known - {"tokenizer_config.json"} | elsewhere


def test_a_tokenizer_beside_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces the file's own; without it the file has the digest it always had."""
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    digest = hashlib.sha256(b"GGUF").hexdigest()
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path.parent)
    packaged = Packaged(package=tmp_path.name, file="a.gguf", label="a")
    alone = fingerprint(file)
    assert alone == hashlib.sha256(f"a.gguf {digest}".encode()).hexdigest()
    assert packaged.fingerprint() == digest
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    (tmp_path / "README.md").write_text("other")
    assert fingerprint(file) == alone
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(file) != alone
    assert packaged.fingerprint() != digest


PLACES = {
    "m/Llama-3.1-8B": "Llama-3.1-8B", "m/Llama-3.2-1B": "Llama-3.2-1B", "Qwen2.5-7B/": "Qwen2.5-7B",
    "x.Q4_1.gguf": "x.Q4_1", "x.GGUF": "x", "v1.0": "v1.0", ".": "local", "..": "local",
    "hub/models--meta-llama--Llama-3.1-8B/snapshots/0123ab": "Llama-3.1-8B",
    "hub/models--gpt2/snapshots/0123ab": "gpt2", "mine/snapshots/0123ab": "0123ab",
    "m/..": "local", ".gguf": "local", "/": "local", "m/.": "m", ".hidden": ".hidden",
}  # fmt: skip


@pytest.mark.parametrize("path", PLACES)
def test_labels_keep_everything_but_gguf(path: str) -> None:
    source = Local(path=path)
    source.check()
    assert source.label == PLACES[path]
    assert not re.fullmatch(r"\.*", source.label)


def test_labels_of_models_in_memory(folder: Path) -> None:
    from flrc.library.in_memory_model import InMemoryModel

    for name in ("Llama-3.1-8B", "Llama-3.2-1B"):
        place = folder.rename(folder.with_name(name))
        model = AutoModelForCausalLM.from_pretrained(place)
        source = InMemoryModel(model, AutoTokenizer.from_pretrained(place))
        assert source.label == name
        folder = place
    model.config.name_or_path = ".."
    assert InMemoryModel(model, AutoTokenizer.from_pretrained(place)).label == "llama"
