"""Chat templates: programs that come with a tokenizer, and the one place where they are run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = datetime(2024, 7, 26)
"""The date (and midnight) that templates print in a run, whatever day it is: two runs of one id
read the same tokens. It is what Llama 3's own template prints where it is not told the date."""

PRINTED = "{'type': 'text'"
"""What a template that takes a text prints of a list of parts."""

Turns = Sequence[dict[str, str]]


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether there is a chat template; without one, prompts are plain text."""
    return bool(tokenizer.chat_template)


def render(
    tokenizer: PreTrainedTokenizerBase,
    turns: Turns,
    *,
    moment: datetime | None = DATE,
    **options: Any,
) -> str:
    """A conversation as the model expects it, special tokens included.

    Templates of multimodal models take a turn's content as a list of parts: where a turn's text is
    lost, or the template fails on it, the conversation is rendered once more in that form.

    Args:
        tokenizer: Its chat template is applied; of several named ones ``default``.
        turns: ``{"role": ..., "content": ...}``.
        moment: What the template is told when it asks for date or time; None: the present.
        options: As ``apply_chat_template`` takes them, and variables of the template.

    Raises:
        UserError: If the template does not parse, raises, is one of several named ones without a
            default, prints something else each time, or leaves out what is said to the model.
    """
    with _stopped_clock(moment or datetime.now()):
        return _rendered(tokenizer, turns, options)


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: Turns, options: dict[str, Any]) -> str:
    problem = ""
    for asked in (list(turns), [_in_parts(turn) for turn in turns]):
        try:
            text = tokenizer.apply_chat_template(asked, tokenize=False, **options)
            again = tokenizer.apply_chat_template(asked, tokenize=False, **options)
        except Exception as error:  # a template is a program, which may fail in any way
            problem = problem or _reason(error)
            continue
        if not isinstance(text, str) or text != again:
            problem = "it prints something else each time"
            continue
        # Of earlier replies templates leave out what the model thought, and mean to.
        said = [turn["content"] for turn in turns if turn["role"] != "assistant"]
        lost = next(filter(None, (first_lost(content, text) for content in said)), None)
        if lost is None and PRINTED in text and not any(PRINTED in content for content in said):
            lost = "all but a list of parts"
        if lost is None:
            return text
        problem = problem or f"it leaves out a part of the text: {lost!r:.40}"
    named = tokenizer.chat_template
    raise UserError(
        "the tokenizer's chat template cannot be used",
        given=problem,
        allowed="a template that takes a turn of the user first and prints all of its text"
        if not isinstance(named, dict)
        else f"one template, or one named default; there are {', '.join(sorted(named))}",
        fix="set tokenizer.chat_template, or put chat_template.jinja beside the tokenizer's files; "
        "an empty one gives prompts of plain text",
    )


def first_lost(content: str, text: str) -> str | None:
    """The first word of a turn that its rendering does not have behind the words before it.

    Words, in order and whatever their case, because templates strip, escape or indent what they
    print.
    """
    if content.strip() in text:
        return None
    folded, at = text.casefold(), 0
    words: list[str] = re.findall(r"\w+", content)
    for word in words:
        found = folded.find(word.casefold(), at)
        if found < 0:
            return word
        at = found + len(word.casefold())
    return None


def reads_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template prints date or time."""
    if not has_template(tokenizer):
        return False
    asked = {"role": "user", "content": "a"}
    conversations = [[asked], [asked, {"role": "assistant", "content": "b"}]]
    moments = (datetime(2001, 1, 2, 3, 4, 5), datetime(2013, 11, 30, 17, 28, 39))
    for turns in conversations:
        try:
            one, other = (
                render(tokenizer, turns, moment=moment, add_generation_prompt=len(turns) == 1)
                for moment in moments
            )
        except UserError:
            continue
        if one != other:
            return True
    return False


def _in_parts(turn: dict[str, str]) -> dict[str, Any]:
    return {**turn, "content": [{"type": "text", "text": turn["content"]}]}


@contextmanager
def _stopped_clock(moment: datetime) -> Iterator[None]:
    """While active, it is one moment for templates.

    ``transformers`` offers templates the present time and takes no other from its caller, so the
    clock that it reads is replaced.
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


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
