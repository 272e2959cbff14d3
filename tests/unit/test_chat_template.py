"""Chat templates of every kind: rendered completely, or rejected with a reason."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tiny import make_model, write_data

import flrc
from flrc.data.chat_template import DATE, reads_date, render
from flrc.data.summarization_pairs import Pair, chat_example, chat_prompt
from flrc.errors import UserError
from flrc.models.sources.byte_tokenizer import byte_tokenizer

PAIR = Pair("1", "Anna: red fox\nTom: a hill", "The fox ran.", "Summarize.")
PLAIN = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
DATED = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}" + PLAIN


def with_template(template: Any) -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def text_of(template: Any) -> str:
    tokenizer = with_template(template)
    return str(tokenizer.decode(chat_prompt(PAIR, tokenizer, 500).ids))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('a system turn first') }}", "a system turn first"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ messages[0]['content'] | no_such_filter }}", "no_such_filter"),
        ("{{ messages[7]['content'] }}", "UndefinedError|leaves out"),
        ({"rag": PLAIN, "tool_use": PLAIN}, "it has rag, tool_use"),
        ("{{ bos_token }}", "leaves out"),
        ("{{ messages[0]['content'][:15] }}", "leaves out.*Anna"),
        ("{{ messages[0]['content'].split('Tom')[0] }}", "leaves out.*Tom"),
        ("{{ (messages[0]['content'] | list) | join(' ') }}", "leaves out"),
        (PLAIN + "{{ range(10**4) | random }}", "differently each time"),
        (PLAIN + "{{ lipsum() }}", "differently each time"),
    ],
)
def test_a_template_that_gives_no_prompt_is_refused(template: Any, reason: str) -> None:
    with pytest.raises(UserError, match=f"(?s)chat template cannot be used.*({reason})"):
        chat_prompt(PAIR, with_template(template), 500)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (PLAIN, "[user]Summarize.\n\nAnna: red fox\nTom: a hill"),
        (PARTS, "[user]Summarize.\n\nAnna: red fox\nTom: a hill"),
        (
            {"default": PLAIN, "rag": "{{ 1 / 0 }}"},
            "[user]Summarize.\n\nAnna: red fox\nTom: a hill",
        ),
        ("", "<s>Summarize.\n\nAnna: red fox\nTom: a hill\n\nSummary:"),
        ("{{ messages[0]['content'] | upper }}", "SUMMARIZE.\n\nANNA: RED FOX\nTOM: A HILL"),
        ("{{ messages[0]['content'] | tojson }}", '"Summarize.\\n\\nAnna: red fox\\nTom: a hill"'),
    ],
)
def test_a_template_is_rendered_with_all_of_its_text(template: Any, expected: str) -> None:
    tokenizer = with_template(template)
    tokenizer.backend_tokenizer.post_processor = byte_tokenizer().backend_tokenizer.post_processor
    assert text_of(template).removeprefix("<s>") == expected.removeprefix("<s>")


def test_a_summary_in_parts() -> None:
    tokenizer = with_template(PARTS)
    example = chat_example(PAIR, tokenizer, 500)
    reply = tokenizer.decode(example.ids[example.prompt_length :])
    assert reply == "[assistant]The fox ran."


def test_a_summary_that_the_template_drops_is_written_all_the_same() -> None:
    """A template that keeps only what is said to the model."""
    tokenizer = with_template(
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    example = chat_example(PAIR, tokenizer, 500)
    assert tokenizer.decode(example.ids[example.prompt_length :]) == "The fox ran.</s>"


class Later(datetime):
    """The clock on another day."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime(2031, 5, 17, 12, 34, 56, 789)


def test_words_count_in_their_order() -> None:
    """All words of the dialogue occur in what is left of it, but not as often."""
    long = Pair("1", "A: yes no\nB: no yes\n" * 40, "Both.", "Summarize.")
    for template in ("{{ m.content[:120] }}", "{{ m.content.splitlines()[0:3] | join(' ') }}"):
        whole = "{% for m in messages %}" + template + "{% endfor %}"
        with pytest.raises(UserError, match="leaves out"):
            chat_prompt(long, with_template(whole), 5000)


def test_a_dialogue_about_lists_of_parts() -> None:
    odd = Pair("1", "why does {'type': 'text', 'text': 1} fail?", "It fails.", "Summarize.")
    tokenizer = with_template(PLAIN)
    assert odd.source in tokenizer.decode(chat_prompt(odd, tokenizer, 500).ids)


def test_a_conversation_of_today_has_one_moment() -> None:
    tokenizer = with_template(DATED)
    for _ in range(20):  # microseconds apart
        render(tokenizer, [{"role": "user", "content": "hi"}], moment=None)


def test_a_template_that_prints_the_date_gives_one_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = with_template(DATED)
    today = chat_prompt(PAIR, tokenizer, 500).ids
    assert tokenizer.decode(today).startswith("26 Jul 2024 00:00:00.000000[user]")
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Later)
    assert chat_prompt(PAIR, tokenizer, 500).ids == today
    # A conversation outside a run takes place today.
    monkeypatch.setattr("flrc.data.chat_template.datetime", Later)
    turns = [{"role": "user", "content": "hi"}]
    assert render(tokenizer, turns, moment=None).startswith("17 May 2031 12:34:56.000789")
    assert reads_date(tokenizer)
    assert reads_date(with_template("{{ strftime_now('%H:%M') }}" + PLAIN))
    late = "{% if messages | length > 1 %}{{ strftime_now('%d') }}{% endif %}" + PLAIN
    assert reads_date(with_template(late))
    assert not reads_date(with_template(PLAIN))
    assert not reads_date(with_template(None))
    assert not reads_date(with_template("{{ raise_exception('no') }}"))


def test_the_date_given_to_a_template_is_recorded(tmp_path: Path) -> None:
    make_model("tiny_llama").save_pretrained(tmp_path / "m")
    write_data(tmp_path / "data")
    words = [
        "model=local", f"model.path={tmp_path / 'm'}", "method=dense", "data=folder",
        f"data.root={tmp_path / 'data'}", "device=cpu", "evaluation=[summarization]",
        "evaluation.summarization.limit=2", "evaluation.summarization.max_new_tokens=2",
        f"paths.runs={tmp_path / 'r'}", f"paths.cache={tmp_path / 'c'}",
    ]  # fmt: skip
    with_template(DATED).save_pretrained(tmp_path / "m")
    assert flrc.run(*words).meta["template_date"] == DATE.date().isoformat()
    with_template(PLAIN).save_pretrained(tmp_path / "m")
    record = flrc.run(*words)
    assert "template_date" not in record.meta
    assert set(record.meta["tokens"]) == {"summarization dialogsum"}
    with_template("{{ raise_exception('a system turn first') }}").save_pretrained(tmp_path / "m")
    with pytest.raises(UserError, match="a system turn first"):
        flrc.run(*words)
