"""Whether a tokenizer was made from a vocabulary, or of its special tokens alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.errors import UserError
from flrc.models.checkpoints.model_files import vocabulary_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = re.compile(r"tokenizer\.(.*\.)?json|tekken\.json|tokenizer\.model.*|tiktoken\.model")
"""One of these is enough, whatever files the tokenizer's class names."""
BOUNDARY = "▁"
"""What begins a word; classes add it to the special tokens where they find nothing else."""


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise UserError if the tokenizer has none, or its class's files are not there.

    ``transformers`` then makes a tokenizer of a few special tokens, and says nothing.
    """
    there = {path.name for path in vocabulary_files(folder)}
    named = dict(type(tokenizer).vocab_files_names)  # none for a tokenizer of bytes
    if named and not any(WHOLE.fullmatch(name) for name in there):
        whole = named.pop("tokenizer_file", "tokenizer.json")
        lost = sorted(set(named.values() or [whole]) - there)
        if lost:
            raise no_vocabulary(folder, lost)
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    if not tokenizer.get_vocab().keys() - added - {BOUNDARY}:
        raise no_vocabulary(folder, [f"what {type(tokenizer).__name__} reads"])


def no_vocabulary(folder: Path, lost: list[str]) -> UserError:
    """The error that names the files."""
    return UserError(
        "the tokenizer has no vocabulary",
        given=f"{folder}: {', '.join(lost)} not there",
        allowed="tokenizer.json, or the vocabulary files of the tokenizer's class",
        fix="copy them into the folder, or tokenizer.save_pretrained(FOLDER)",
    )
