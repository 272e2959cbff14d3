"""The files of a saved model that loading reads. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

CONFIG = "config.json"
SETTINGS = (CONFIG, "generation_config.json")
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where ``from_pretrained`` looks for weights; it reads only the first that exists."""
INDEX = ".index.json"
TEMPLATES = "additional_chat_templates"
VOCABULARY = (
    "tokenizer.json", "tokenizer.*.json", "tokenizer.model", "tokenizer.model.v*", "tekken.json",
    "tiktoken.model", "bpe.codes", "byte_maps.json", "dict.txt", "emoji.json", "entity_vocab.json",
    "merges.txt", "normalizer.json", "prophetnet.tokenizer", "sentencepiece.bpe.model",
    "sentencepiece.model", "source.spm", "spiece.model", "spm.model", "spm_char.model",
    "target.spm", "target_vocab.json", "vocab-src.json", "vocab-tgt.json", "vocab.json",
    "vocab.txt", "word_pronunciation.json", "word_shape.json",
)  # fmt: skip
"""Vocabulary files of the tokenizers of ``transformers``."""
TOKENIZER = (
    *VOCABULARY,
    "added_tokens.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "tokenizer_config.json",
)


def model_files(folder: Path) -> list[Path]:
    """All files that loading reads: settings, weights, tokenizer, chat templates.

    Other files in the folder (runs, pictures, other formats of the weights) are not part of the
    model.
    """
    settings = [folder / name for name in SETTINGS if (folder / name).is_file()]
    weights = [path for path in weight_files(folder) if path.is_file()]
    return sorted({*settings, *weights, *tokenizer_files(folder)})


def weight_files(folder: Path) -> list[Path]:
    """The weight file, or an index and its shards, which may be missing."""
    named = _object(folder / CONFIG).get("transformers_weights")
    for name in [named] if isinstance(named, str) else WEIGHTS:
        path = folder / name
        if path.is_file():
            return [path, *shards(path)] if name.endswith(INDEX) else [path]
    return []


def shards(index: Path) -> list[Path]:
    """The files that an index names, existing or not."""
    placed = _object(index).get("weight_map")
    names = set(placed.values()) if isinstance(placed, dict) else set()
    return sorted(index.parent / name for name in names if isinstance(name, str))


def tokenizer_files(folder: Path) -> list[Path]:
    """Vocabularies, added tokens and chat templates."""
    templates = (folder / TEMPLATES).glob("*.jinja")
    return sorted([*_matching(folder.iterdir(), TOKENIZER), *(p for p in templates if p.is_file())])


def vocabulary_files(folder: Path) -> list[Path]:
    """The tokenizer's vocabulary files."""
    return sorted(_matching(folder.iterdir(), VOCABULARY))


def _matching(paths: Iterable[Path], patterns: Iterable[str]) -> list[Path]:
    patterns = list(patterns)
    return [
        path
        for path in paths
        if path.is_file() and any(fnmatchcase(path.name, pattern) for pattern in patterns)
    ]


def _object(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty if there is none, which the checks of the file report."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
