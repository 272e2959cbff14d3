"""Finds texts that a metric cannot score, before any work. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import regex

from flrc.errors import UserError
from flrc.evaluation.bertscore_models import bertscore_tokenizer
from flrc.evaluation.rouge_tokenizers import lost_words, make_tokenizer

if TYPE_CHECKING:
    from flrc.data.summarization_pairs import Pair

log = logging.getLogger(__name__)

MOST_LOST = 0.1
"""Largest share of a reference that a metric may ignore: of its words with ROUGE-L, of its
characters with BERTScore. References of DialogSum and of the sample lose nothing; in CNN/DM three
of 41,330 words are split at an accent, at most 4.5 % of one reference."""

_BLANK = regex.compile(r"[\s\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]*")
_IGNORABLE = regex.compile(
    r"[\s\p{C}]|(?<=[\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Arabic}]\p{M}*)\p{M}"
)
"""Characters that an encoder may drop: invisible ones, accents, and optional vowel points."""


def is_blank(text: str) -> bool:
    """Whether a text has only white space, control and zero-width characters."""
    return _BLANK.fullmatch(text) is not None


def check_pairs(
    pairs: Sequence[Pair],
    place: str,
    group: str,
    *,
    rouge_tokenizer: str | None = None,
    bertscore: str | None = None,
) -> None:
    """Check that no text is blank, and that the metrics can score every reference.

    Metrics without a tokenizer or an encoder are not computed, so they are not checked.

    Raises:
        UserError: At the first text that fails; names ``place``, the row, and the ``group`` of
            options that chooses the metrics.
    """
    for pair in pairs:
        where = f"{place}, row {pair.id}"
        for column, text in (("source", pair.source), ("reference", pair.reference)):
            if is_blank(text):
                raise UserError(
                    f"{where} has a blank {column}",
                    given=repr(text)[:80],
                    allowed="a text and its summary",
                    fix="remove the row from the data",
                )
        if rouge_tokenizer is not None:
            check_words(pair.reference, rouge_tokenizer, where, group)
            if not make_tokenizer(rouge_tokenizer).tokenize(pair.reference):
                raise _wordless(pair.reference, where, "ROUGE-L")
        if bertscore is not None:
            check_known(pair.reference, bertscore, where, group)
            if not bertscore_tokenizer(bertscore).tokenize(pair.reference):
                raise _wordless(pair.reference, where, "BERTScore")
    if bertscore is not None:
        warn_of_truncation([pair.reference for pair in pairs], bertscore, "references")


def check_words(
    reference: str, tokenizer: str, where: str, group: str = "evaluation.summarization"
) -> None:
    """Check that ROUGE-L's tokenizer keeps the words of a reference.

    Raises:
        UserError: If more than :data:`MOST_LOST` of its words are dropped or split, or if it
            consists of symbols (emoji) and nothing is kept.
    """
    if tokenizer != "default":
        return
    lost = lost_words(reference)
    kept = lost <= MOST_LOST and make_tokenizer("default").tokenize(reference)
    if kept or not make_tokenizer("unicode").tokenize(reference):
        return
    loss = f"would lose {lost:.0%} of the words" if lost else "keeps nothing"
    raise UserError(
        f"ROUGE-L's default tokenizer, which knows only the letters a to z, {loss} of {where}",
        given=reference[:80],
        allowed=f"references of which it keeps at least {1 - MOST_LOST:.0%} of the words",
        fix=f"{group}.rouge_tokenizer=unicode, which keeps the words of any script",
    )


def check_known(
    reference: str, encoder: str, where: str, group: str = "evaluation.summarization"
) -> None:
    """Check that BERTScore's encoder has tokens for a reference.

    Raises:
        UserError: If more than :data:`MOST_LOST` of its characters are in unknown tokens, which
            the encoder cannot distinguish, or are dropped, such as the vowel signs of Hindi.
    """
    tokenizer = bertscore_tokenizer(encoder)
    encoded = tokenizer(
        reference, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    spans = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
    unknown = sum(end - begin for token, (begin, end) in spans if token == tokenizer.unk_token_id)
    covered = {at for _, (begin, end) in spans for at in range(begin, end)}
    ignorable = {at for match in _IGNORABLE.finditer(reference) for at in range(*match.span())}
    unknown += len(set(range(len(reference))) - covered - ignorable)
    share = unknown / max(1, sum(not character.isspace() for character in reference))
    if share <= MOST_LOST:
        return
    raise UserError(
        f"BERTScore's encoder has no tokens for {share:.0%} of the characters of {where}; "
        "different texts would get the same score",
        given=f"{group}.bertscore_model={encoder}: {reference[:80]}",
        allowed=f"references of which it has tokens for at least {1 - MOST_LOST:.0%}",
        fix=f"{group}.bertscore_model=bert-base-multilingual-cased, or roberta-large, which has "
        "byte-level tokens (both from the hub)",
    )


def warn_of_truncation(texts: Sequence[str], encoder: str, role: str) -> None:
    """Log how many texts are longer than the context length of BERTScore's encoder."""
    tokenizer = bertscore_tokenizer(encoder)
    most = tokenizer.model_max_length
    longer = sum(len(ids) > most for ids in tokenizer(list(texts), verbose=False)["input_ids"])
    if longer:
        log.warning(
            "BERTScore reads the first %d tokens of a text: %d of %d %s are longer, "
            "and their ends are not scored",
            most - tokenizer.num_special_tokens_to_add(),
            longer,
            len(texts),
            role,
        )


def _wordless(reference: str, where: str, metric: str) -> UserError:
    return UserError(
        f"{where} has a reference without any word that {metric} could compare",
        given=reference[:80],
        allowed="a reference with words",
        fix="remove the row from the data",
    )
