"""The files of a saved model that loading reads. Imports no torch."""

from __future__ import annotations

import json
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
    *VOCABULARY, "added_tokens.json", "chat_template.jinja", "special_tokens_map.json",
    "tokenizer_config.json",
)  # fmt: skip


def model_files(folder: Path) -> list[Path]:
    """All files that loading reads: settings, weights, tokenizer, chat templates."""
    settings = [folder / name for name in SETTINGS if (folder / name).is_file()]
    weights = [path for path in weight_files(folder) if path.is_file()]
    return sorted({*settings, *weights, *tokenizer_files(folder)})


def weight_files(folder: Path) -> list[Path]:
    """The weight file, or an index and its shards, which may be missing."""
    named = _object(folder / CONFIG).get("transformers_weights")
    for name in [named] if isinstance(named, str) else WEIGHTS:
        path = folder / name
        if path.is_file():
            placed = _object(path).get("weight_map") if name.endswith(INDEX) else None
            shards = set(placed.values()) if isinstance(placed, dict) else set()
            return [
                path,
                *sorted(path.parent / shard for shard in shards if isinstance(shard, str)),
            ]
    return []


def tokenizer_files(folder: Path) -> list[Path]:
    """Vocabularies, added tokens and chat templates."""
    templates = (folder / TEMPLATES).glob("*.jinja")
    return sorted([*_matching(folder, TOKENIZER), *(p for p in templates if p.is_file())])


def vocabulary_files(folder: Path) -> list[Path]:
    """The tokenizer's vocabulary files."""
    return sorted(_matching(folder, VOCABULARY))


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    files = [path for path in folder.iterdir() if path.is_file()]
    return [path for path in files if any(fnmatchcase(path.name, p) for p in patterns)]


def _object(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty if there is none, which the checks of the file report."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
