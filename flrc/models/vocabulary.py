"""Whether a tokenizer was made from a vocabulary, or of its special tokens alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.errors import UserError
from flrc.models.files import vocabulary_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WHOLE = re.compile(r"tokenizer\.(.*\.)?json|tekken\.json|tokenizer\.model.*|tiktoken\.model")
"""One of these is enough, whatever files the tokenizer's class names."""


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise UserError if the files are not there from which the tokenizer's class reads.

    ``transformers`` then makes a tokenizer of a few special tokens, and says nothing.
    """
    there = {path.name for path in vocabulary_files(folder)}
    named = dict(type(tokenizer).vocab_files_names)  # none for a tokenizer of bytes
    if not named or any(WHOLE.fullmatch(name) for name in there):
        return
    whole = named.pop("tokenizer_file", "tokenizer.json")
    lost = sorted(set(named.values() or [whole]) - there)
    if lost:
        raise no_vocabulary(folder, lost)


def no_vocabulary(folder: Path, lost: list[str]) -> UserError:
    """The error that names the files."""
    return UserError(
        "the tokenizer has no vocabulary",
        given=f"{folder}: {', '.join(lost)} not there",
        allowed="tokenizer.json, or the vocabulary files of the tokenizer's class",
        fix="copy them into the folder, or tokenizer.save_pretrained(FOLDER)",
    )
