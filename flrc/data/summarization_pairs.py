"""Summarization data: pairs of source and reference, and prompts made from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.data.chat_template import first_lost, has_template, render
from flrc.errors import UserError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from flrc.data.base import DataSource

NO_THINKING: dict[str, Any] = {"enable_thinking": False}
"""Variables for the templates of reasoning models: the summary should come at once."""

# The test split of DialogSum has three references per dialogue: test_0_1, test_0_2, test_0_3.
_FURTHER_REFERENCE = re.compile(r"_\d+_(?!1)\d$")


@dataclass(frozen=True)
class _Task:
    source: str
    reference: str
    instruction: str


TASKS = {
    "dialogsum": _Task(
        "dialogue", "summary", "Summarize the following dialogue in one or two sentences."
    ),
    "cnn_dailymail": _Task(
        "article", "highlights", "Summarize the following article in three sentences."
    ),
}


@dataclass(frozen=True)
class Pair:
    """A dialogue or article, a summary written by a person, and the instruction for the model."""

    id: str
    source: str
    reference: str
    instruction: str


@dataclass(frozen=True)
class Encoded:
    """Token ids of a prompt, or of a prompt and its summary; whether the source was truncated."""

    ids: list[int]
    prompt_length: int
    truncated: bool


def read_pairs(data: DataSource, dataset: str, split: str, limit: int | None = None) -> list[Pair]:
    """The first ``limit`` pairs of a split (None for all), one reference per source.

    Raises:
        UserError: If the data set or split does not exist.
    """
    task = TASKS[choose("summarization data set", dataset, TASKS)]
    rows = [
        row for row in data.rows(dataset, split) if not _FURTHER_REFERENCE.search(str(row["id"]))
    ]
    return [
        Pair(str(row["id"]), row[task.source], row[task.reference], task.instruction)
        for row in rows[:limit]
    ]


def chat_prompt(pair: Pair, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int) -> Encoded:
    """The prompt as token ids: rendered with the chat template, or plain text without one.

    Args:
        pair: Its source is truncated at its end if the prompt would be too long.
        tokenizer: The model's tokenizer.
        max_prompt_tokens: Maximum length, template included.

    Raises:
        UserError: If the instruction alone is too long.
    """

    def encode(source: str) -> list[int]:
        text = _prompt_text(pair.instruction, source, tokenizer)
        return _ids(tokenizer, text, special=not has_template(tokenizer))

    ids = encode(pair.source)
    truncated = len(ids) > max_prompt_tokens
    if truncated:
        source = _longest_fitting(pair.source, lambda text: len(encode(text)) <= max_prompt_tokens)
        if not source:
            raise UserError(
                "the prompt is too long even without a source",
                given=f"prompts of at most {max_prompt_tokens} tokens",
                allowed=f"at least {len(encode('')) + 1} tokens with this tokenizer",
            )
        ids = encode(source)
    return Encoded(ids, len(ids), truncated)


def chat_example(pair: Pair, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int) -> Encoded:
    """Prompt and reference summary as one conversation, for calibration.

    The ids begin with exactly those of :func:`chat_prompt`; the reply ends as in the chat template,
    or with the end-of-sequence token. ``max_prompt_tokens`` does not include the summary.
    """
    prompt = chat_prompt(pair, tokenizer, max_prompt_tokens)
    reply = _ids(tokenizer, _reply_text(pair, tokenizer), special=False)
    return Encoded([*prompt.ids, *reply], prompt.prompt_length, prompt.truncated)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    # A chat template includes the special tokens, so they must not be added again.
    ids: list[int] = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return ids


def _prompt_text(instruction: str, source: str, tokenizer: PreTrainedTokenizerBase) -> str:
    content = f"{instruction}\n\n{source}"
    if not has_template(tokenizer):
        return f"{content}\n\nSummary:"
    turns = [{"role": "user", "content": content}]
    return render(tokenizer, turns, add_generation_prompt=True, **NO_THINKING)


def _reply_text(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> str:
    end = tokenizer.eos_token or ""
    if not has_template(tokenizer):
        return f" {pair.reference}{end}"
    opening = _prompt_text(pair.instruction, "", tokenizer)
    turns = [
        {"role": "user", "content": f"{pair.instruction}\n\n"},
        {"role": "assistant", "content": pair.reference},
    ]
    whole = render(tokenizer, turns, **NO_THINKING)
    # Some templates drop parts of earlier turns: then ``whole`` does not begin with the prompt.
    reply = whole[len(opening) :]
    kept = whole.startswith(opening) and first_lost(pair.reference, reply) is None
    return reply if kept else f"{pair.reference}{end}"


def _longest_fitting(source: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of ``source`` that fits, truncated between words if possible."""
    low, high = 0, len(source)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(source[:middle]) else (low, middle - 1)
    start = source[:low]
    inside_word = low < len(source) and not (start[-1:].isspace() or source[low].isspace())
    words = start.rsplit(maxsplit=1)
    shorter = words[0] if inside_word and len(words) > 1 else start.rstrip()
    # Fewer characters almost never have more tokens, but the limit is about tokens.
    return shorter if fits(shorter) else ""
