"""Checks that a tokenizer has a vocabulary, not just special tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.errors import UserError
from flrc.models.checkpoints.model_files import vocabulary_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = re.compile(r"tokenizer\.(.*\.)?json|tekken\.json|tokenizer\.model.*|tiktoken\.model")
"""Any one of these files suffices, whatever files the tokenizer's class names."""
BOUNDARY = "▁"
"""The start of a word; some classes add it to the special tokens if they find no vocabulary."""


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise UserError if the tokenizer has no vocabulary, or a file of its class is missing.

    ``transformers`` silently makes a tokenizer of a few special tokens then.
    """
    present = {path.name for path in vocabulary_files(folder)}
    named = dict(type(tokenizer).vocab_files_names)  # empty for a tokenizer of bytes
    if named and not any(WHOLE.fullmatch(name) for name in present):
        whole = named.pop("tokenizer_file", "tokenizer.json")
        missing = sorted(set(named.values() or [whole]) - present)
        if missing:
            raise no_vocabulary(folder, ", ".join(missing))
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    if not tokenizer.get_vocab().keys() - added - {BOUNDARY}:
        raise no_vocabulary(folder, f"the vocabulary file of {type(tokenizer).__name__}")


def no_vocabulary(folder: Path, missing: str) -> UserError:
    """The error that names the missing files."""
    return UserError(
        "the tokenizer has no vocabulary",
        given=f"{folder}: {missing} not found",
        allowed="tokenizer.json, or the vocabulary files of the tokenizer's class",
        fix="copy them into the folder, or tokenizer.save_pretrained(FOLDER)",
    )
