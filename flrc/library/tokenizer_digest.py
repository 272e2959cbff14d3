"""Digest of everything that determines how a tokenizer in memory tokenizes a text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flrc.core import jsonfile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = (
    "The River's  12,345 caf\u00e9s\n\tna\u00efve \u0130stanbul "
    "\u4f60\u597d \U0001f600 don\u2019t #x_y"
)
"""Case, digits, spaces, accents and scripts, to catch differences not in the files."""
STATE = ("padding", "truncation")
"""Entries of ``tokenizer.json`` that depend on the last call."""
ORIGIN = ("name_or_path", "_commit_hash", "local_files_only", "is_local", "model_max_length")
"""Entries of ``tokenizer_config.json`` that do not affect tokens."""


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the files that a tokenizer saves, its class, and its tokens of a probe text.

    A vocabulary does not determine a tokenizer: normalizer, pre-tokenizer, post-processor, added
    tokens and chat template matter as much.
    """
    digest = hashlib.sha256(f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}".encode())
    with TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
        except Exception:  # custom parts that cannot be saved
            digest.update(jsonfile.canonical(tokenizer.get_vocab()).encode())
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            digest.update(f"\n{name} ".encode() + _content(path))
    # Settings changed after loading are not saved; special tokens in the text reveal some of them.
    probe = f"{PROBE} {' '.join(tokenizer.all_special_tokens)} a"
    digest.update(str(tokenizer(probe)["input_ids"]).encode())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    values: Any = json.loads(path.read_text("utf-8"))
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key not in (*STATE, *ORIGIN)}
    return json.dumps(values, sort_keys=True).encode()
