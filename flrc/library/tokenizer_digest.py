"""Who a tokenizer in memory is: everything that decides which tokens it makes of a text."""

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
"""Case, digits, spaces, accents and scripts: a tokenizer whose class does more than its files say
shows it on some of these."""
STATE = ("padding", "truncation")
"""Entries of ``tokenizer.json`` that the last call has left there."""
ORIGIN = ("name_or_path", "_commit_hash", "local_files_only", "is_local", "model_max_length")
"""Entries of ``tokenizer_config.json`` that change no token."""


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the files that a tokenizer saves, its class and what it makes of a probe.

    A vocabulary does not fix a tokenizer: normaliser, pre-tokenizer, post-processor, added tokens
    and chat template decide as much.
    """
    digest = hashlib.sha256(f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}".encode())
    with TemporaryDirectory() as folder:
        try:
            tokenizer.save_pretrained(folder)
        except Exception:  # parts of the caller's own, which cannot be saved
            digest.update(jsonfile.canonical(tokenizer.get_vocab()).encode())
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                digest.update(f"\n{name} ".encode() + _content(path))
    # Settings that were changed after loading are not saved; special tokens in a text show some.
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
