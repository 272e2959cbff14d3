"""Saved models, intact and corrupted."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.models.sources.loading import load_model
from flrc.models.sources.local import Local

WEIGHTS = "model.safetensors"
CONFIG = {
    "vocab_size": 260,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def saved(folder: Path, kind: str = "llama", shard: str = "50GB", **changes: Any) -> Path:
    """A tiny model with its tokenizer, as ``save_pretrained`` writes them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **CONFIG | changes)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder, max_shard_size=shard)
    byte_tokenizer().save_pretrained(folder)
    return folder


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """Corrupts a model by changing the tensors of the file."""

    def spoil(folder: Path) -> None:
        held = load_file(folder / WEIGHTS)
        change(held)
        save_file({k: v.clone() for k, v in held.items()}, folder / WEIGHTS, {"format": "pt"})

    return spoil


def fields(name: str = "config.json", **changes: Any) -> Callable[[Path], None]:
    """Corrupts a model by changing fields of a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        before = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(before | changes))

    return spoil


def content(name: str, text: str | bytes) -> Callable[[Path], None]:
    """Corrupts a model by writing a file."""

    def spoil(folder: Path) -> None:
        data = text.encode() if isinstance(text, str) else text
        (folder / name).write_bytes(data)

    return spoil


def cut(name: str, size: int) -> Callable[[Path], None]:
    """Corrupts a model by keeping the first bytes of a file; negative: all but the last."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return spoil


def without(*names: str) -> Callable[[Path], None]:
    """Corrupts a model by removing files."""

    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def both(*spoilers: Callable[[Path], None]) -> Callable[[Path], None]:
    """One after the other."""

    def spoil(folder: Path) -> None:
        for one in spoilers:
            one(folder)

    return spoil


def header(length: int, text: str, body: int = 0) -> bytes:
    """A safetensors file with any header."""
    return struct.pack("<Q", length) + text.encode() + b"\0" * body


def use(folder: Path) -> Local:
    """All checks that a run makes of a model, in order."""
    source = Local(path=str(folder))
    source.check_available()
    source.fingerprint()
    source.tokenizer()
    source.config()
    load_model(source, "float32", torch.device("cpu"))
    return source
