"""The words that ROUGE-L compares, in any script. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import regex

TOKENIZERS = ("default", "unicode")
"""``default`` is ``rouge_score``'s own: words of a to z and 0 to 9; anything else separates."""

_UNSEGMENTED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_WORD = (
    rf"(?=[\p{{L}}\p{{N}}]){_UNSEGMENTED}\p{{M}}*"
    rf"|[[\p{{L}}\p{{N}}]--{_UNSEGMENTED}][[\p{{L}}\p{{N}}\p{{M}}]--{_UNSEGMENTED}]*"
)
_WORDS = regex.compile(_WORD, regex.V1)
_WORDS_AND_SYMBOLS = regex.compile(rf"{_WORD}|\p{{So}}", regex.V1)
_UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_KEPT = re.compile("[a-z0-9]+")


class UnicodeTokenizer:
    """Words of letters, digits and marks of any script; other symbols (emoji) one by one.

    Of scripts that put no space between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each
    character is a word. Compatible forms are one (NFKC), and so are cases; what cannot be seen
    (joiners, soft hyphens) is left out. Words of a to z and 0 to 9 are those of ``rouge_score``'s
    default tokenizer, stemmed as there.
    """

    def __init__(self) -> None:
        self._latin = make_tokenizer("default")

    def tokenize(self, text: str) -> list[str]:
        """The words, in order."""
        words: list[str] = []
        text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()
        for word in _WORDS_AND_SYMBOLS.findall(text):
            words += self._latin.tokenize(word) if _KEPT.fullmatch(word) else [word]
        return words


def make_tokenizer(name: str) -> Any:
    """One of :data:`TOKENIZERS`, stemming."""
    if name == "unicode":
        return UnicodeTokenizer()
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


def lost_words(text: str) -> float:
    """Share of a text's words that the default tokenizer drops or splits; 0 without a word."""
    words = _WORDS.findall(_UNSEEN.sub("", text.lower()))
    return sum(_KEPT.fullmatch(word) is None for word in words) / max(1, len(words))
