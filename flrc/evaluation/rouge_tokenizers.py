"""Tokenizers that split text into words for ROUGE-L, in any script. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import regex

TOKENIZERS = ("default", "unicode")
"""``default`` is that of ``rouge_score``: words of a to z and 0 to 9; all else separates words."""

_UNSEGMENTED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = (
    rf"(?=[\p{{L}}\p{{N}}]){_UNSEGMENTED}\p{{M}}*"
    rf"|[[\p{{L}}\p{{N}}]--{_UNSEGMENTED}][[\p{{L}}\p{{N}}\p{{M}}]--{_UNSEGMENTED}]*"
)
_WORDS = regex.compile(_WORD, regex.V1)
_WORDS_AND_SYMBOLS = regex.compile(rf"{_WORD}|\p{{So}}", regex.V1)
_INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_ASCII_WORD = re.compile("[a-z0-9]+")


class UnicodeTokenizer:
    """Splits text into words of letters, digits and marks of any script; an emoji is a word.

    In scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each
    character is a word. Text is normalised (NFKC) and case-folded; invisible characters (joiners,
    soft hyphens) are removed. Words of a to z and 0 to 9 are the same as with ``rouge_score``'s
    default tokenizer, stemmed as there.
    """

    def __init__(self) -> None:
        self._latin = make_tokenizer("default")

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, in order."""
        words: list[str] = []
        text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()
        for word in _WORDS_AND_SYMBOLS.findall(text):
            words += self._latin.tokenize(word) if _ASCII_WORD.fullmatch(word) else [word]
        return words


def make_tokenizer(name: str) -> Any:
    """The tokenizer of this name in :data:`TOKENIZERS`, with stemming."""
    if name == "unicode":
        return UnicodeTokenizer()
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


def lost_words(text: str) -> float:
    """Share of words that the default tokenizer drops or splits; 0 if there are no words."""
    words = _WORDS.findall(_INVISIBLE.sub("", text.lower()))
    return sum(_ASCII_WORD.fullmatch(word) is None for word in words) / max(1, len(words))
