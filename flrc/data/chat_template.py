"""Renders conversations with the tokenizer's chat template; no other module runs templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = datetime(2024, 7, 26)
"""The date (at midnight) that templates print in every run, so that runs with the same id read the
same tokens. It is the default of Llama 3's own template."""

PRINTED_PARTS = "{'type': 'text'"
"""What a template that expects a string prints for a list of parts."""

Turns = Sequence[dict[str, str]]


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer has a chat template; without one, prompts are plain text."""
    return bool(tokenizer.chat_template)


def render(
    tokenizer: PreTrainedTokenizerBase,
    turns: Turns,
    *,
    moment: datetime | None = DATE,
    **options: Any,
) -> str:
    """A conversation as the model expects it, special tokens included.

    Templates of multimodal models expect a turn's content as a list of parts: if a template fails
    on a string, or omits its text, the conversation is rendered again with such lists.

    Args:
        tokenizer: Its chat template is applied; the one named ``default`` if it has several.
        turns: ``{"role": ..., "content": ...}``.
        moment: Date and time for templates that print them; None: now.
        options: Options of ``apply_chat_template``, and variables of the template.

    Raises:
        UserError: If the template is invalid, raises an error, is not deterministic, omits text of
            a turn that is not the assistant's, or if there are several without a default.
    """
    with _stopped_clock(moment or datetime.now()):
        return _rendered(tokenizer, turns, options)


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Turns, options: dict[str, Any]) -> str:
    problem = ""
    in_parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    for conversation in (list(turns), in_parts):
        try:
            text = tokenizer.apply_chat_template(conversation, tokenize=False, **options)
            again = tokenizer.apply_chat_template(conversation, tokenize=False, **options)
        except Exception as error:  # a template is a program and may raise anything
            problem = problem or f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        if not isinstance(text, str) or text != again:
            problem = "it renders the same conversation differently each time"
            continue
        # Templates omit the reasoning of earlier replies on purpose, so these are not checked.
        contents = [turn["content"] for turn in turns if turn["role"] != "assistant"]
        lost = next(filter(None, (first_lost(content, text) for content in contents)), None)
        if PRINTED_PARTS in text and not any(PRINTED_PARTS in content for content in contents):
            lost = lost or "the content, printed as a list of parts"
        if lost is None:
            return text
        problem = problem or f"it leaves out part of the text: {lost!r:.40}"
    named = tokenizer.chat_template
    raise UserError(
        "the tokenizer's chat template cannot be used",
        given=problem,
        allowed="a template that accepts a user turn first and prints all of its text"
        if not isinstance(named, dict)
        else f"one template, or one named default; it has {', '.join(sorted(named))}",
        fix="set tokenizer.chat_template, or put chat_template.jinja beside the tokenizer's files; "
        "with an empty one, prompts are plain text",
    )


def first_lost(content: str, text: str) -> str | None:
    """The first word of a turn that is missing in its rendering, after the words before it.

    Only words are compared, in order and ignoring case, because templates strip, escape or indent
    what they print.
    """
    if content.strip() in text:
        return None
    folded, at = text.casefold(), 0
    words: list[str] = re.findall(r"\w+", content)
    for word in words:
        position = folded.find(word.casefold(), at)
        if position < 0:
            return word
        at = position + len(word.casefold())
    return None


def reads_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template prints the date or time."""
    if not has_template(tokenizer):
        return False
    question = {"role": "user", "content": "a"}
    conversations = [[question], [question, {"role": "assistant", "content": "b"}]]
    moments = (datetime(2001, 1, 2, 3, 4, 5), datetime(2013, 11, 30, 17, 28, 39))
    for turns in conversations:
        with suppress(UserError):
            first, second = (
                render(tokenizer, turns, moment=moment, add_generation_prompt=len(turns) == 1)
                for moment in moments
            )
            if first != second:
                return True
    return False


@contextmanager
def _stopped_clock(moment: datetime) -> Iterator[None]:
    """Inside, templates see one fixed time.

    ``transformers`` gives templates the current time and has no option for another, so the clock
    that it reads is replaced.
    """
    from transformers.utils import chat_template_utils as utils

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return moment

    running, utils.datetime = utils.datetime, Stopped
    try:
        yield
    finally:
        utils.datetime = running
