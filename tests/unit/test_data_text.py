"""Token streams and windows, summarization pairs and their prompts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DATASETS
from flrc.data.summarization_pairs import TASKS, Pair, chat_example, chat_prompt, read_pairs
from flrc.data.text import sample_windows, token_stream, windows
from flrc.errors import UserError

# What the template below writes; like many templates, it trims contents.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] | trim }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
PAIR = Pair("7", "one two three four five six", "numbers", "Shorten.")


def byte_tokenizer(frame: str = "<s> $A") -> PreTrainedTokenizerFast:
    """One token a byte; ``<s>`` is 256, ``</s>`` 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {**{c: i for i, c in enumerate(alphabet)}, "<s>": 256, "</s>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [("<s>", 256), ("</s>", 257)]
    tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=16
    )


def decoded(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


@pytest.mark.parametrize(
    ("frame", "opening"), [("<s> $A", [256]), ("<s> $A </s>", [256]), ("$A </s>", []), ("$A", [])]
)
def test_stream_is_one_text_with_special_tokens_at_its_start(
    frame: str, opening: list[int]
) -> None:
    tokenizer = byte_tokenizer(frame)
    rows = [{"text": ""}, {"text": " = Title = \n"}, {"text": ""}, {"text": "grün"}]
    stream = token_stream(rows, tokenizer)
    assert stream.dtype == torch.int64
    assert stream[: len(opening)].tolist() == opening
    body = stream[len(opening) :].tolist()
    assert decoded(tokenizer, body) == "\n\n = Title = \n\n\n\n\ngrün"
    assert not {256, 257} & set(body)


def test_stream_does_not_warn_about_its_length(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        tokenizer = byte_tokenizer()
        token_stream([{"text": "x" * 100}], tokenizer)
        assert not caplog.records
        tokenizer("x" * 100)
        assert caplog.records, "the tokenizer no longer warns: the test has lost its meaning"
    finally:
        logger.removeHandler(caplog.handler)


def test_windows_do_not_overlap_and_drop_the_rest() -> None:
    stream = torch.arange(10)
    assert windows(stream, 3).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    with pytest.raises(UserError, match="10 tokens"):
        windows(stream, 11)


def test_drawn_windows() -> None:
    stream = torch.arange(1000)
    drawn = sample_windows(stream, 10, samples=40, seed=3)
    starts = drawn[:, 0].tolist()
    assert drawn.shape == (40, 10)
    assert len(set(starts)) == 40
    assert all(start % 10 == 0 for start in starts)
    assert torch.equal(drawn, drawn[:, :1] + torch.arange(10))
    assert torch.equal(sample_windows(stream, 10, 7, seed=3), drawn[:7])
    assert not torch.equal(sample_windows(stream, 10, 40, seed=4), drawn)
    assert sorted(sample_windows(stream, 10, 100, seed=0)[:, 0].tolist()) == [*range(0, 1000, 10)]
    with pytest.raises(UserError, match="has 100 windows of 10 tokens"):
        sample_windows(stream, 10, 101, seed=0)


class Rows(DataSource):
    """Rows given by a test."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.given = rows

    def rows(self, dataset: str, split: str) -> list[dict[str, Any]]:
        return self.given

    def label(self, dataset: str) -> str:
        return dataset

    def fingerprint(self, dataset: str, split: str) -> str:
        return "0"

    def check_available(self, dataset: str, split: str) -> None:
        return None


def dialogues(*ids: str) -> Rows:
    return Rows([{"id": i, "dialogue": f"d {i}", "summary": f"s {i}", "topic": ""} for i in ids])


def test_every_summarization_data_set_has_a_form() -> None:
    expected = {name for name, spec in DATASETS.items() if spec.kind == "summarization"}
    assert set(TASKS) == expected


def test_one_reference_a_dialogue() -> None:
    data = dialogues("test_0_1", "test_0_2", "test_0_3", "test_1_1", "test_1_2", "test_1_3")
    assert [p.id for p in read_pairs(data, "dialogsum", "test")] == ["test_0_1", "test_1_1"]
    assert [p.id for p in read_pairs(data, "dialogsum", "test", limit=1)] == ["test_0_1"]


@pytest.mark.parametrize("prefix", ["train_", "dev_", "sample_test_", "sample-"])
def test_other_ids_are_all_kept(prefix: str) -> None:
    data = dialogues(*(f"{prefix}{n}" for n in range(13)))
    assert len(read_pairs(data, "dialogsum", "train")) == 13


def test_articles() -> None:
    data = Rows([{"id": "a", "article": "long", "highlights": "x .\ny ."}])
    (pair,) = read_pairs(data, "cnn_dailymail", "test")
    assert (pair.source, pair.reference) == ("long", "x .\ny .")
    assert "three sentences" in pair.instruction
    with pytest.raises(UserError, match="nearest: dialogsum"):
        read_pairs(data, "dialogsums", "test")


def test_prompt_as_plain_text() -> None:
    tokenizer = byte_tokenizer()
    prompt = chat_prompt(PAIR, tokenizer, 200)
    text = "<s>Shorten.\n\none two three four five six\n\nSummary:"
    assert decoded(tokenizer, prompt.ids) == text
    assert (prompt.prompt_length, prompt.truncated) == (len(prompt.ids), False)
    example = chat_example(PAIR, tokenizer, 200)
    assert decoded(tokenizer, example.ids) == text + " numbers</s>"
    assert example.prompt_length == len(prompt.ids)


def test_prompt_in_the_chat_template() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    prompt = chat_prompt(PAIR, tokenizer, 200)
    text = "<s>[user]Shorten.\n\none two three four five six</s>[assistant]"
    assert decoded(tokenizer, prompt.ids) == text
    assert prompt.ids.count(256) == 1
    example = chat_example(PAIR, tokenizer, 200)
    assert example.ids[: example.prompt_length] == prompt.ids
    assert decoded(tokenizer, example.ids) == text + "numbers</s>"


def test_template_that_rewrites_earlier_turns() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}" + TEMPLATE
    example = chat_example(PAIR, tokenizer, 200)
    assert decoded(tokenizer, example.ids).endswith("[assistant]numbers</s>")


@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("room", range(1, 27))
def test_long_source_keeps_its_beginning(template: str | None, room: int) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    whole = chat_prompt(PAIR, tokenizer, 500)
    limit = len(whole.ids) - len(PAIR.source) + room
    prompt = chat_prompt(PAIR, tokenizer, limit)
    assert len(prompt.ids) <= limit
    assert prompt.truncated == (room < len(PAIR.source))
    # By hand: the words that fit, and of the first word as much as fits.
    words = [PAIR.source[:end] for end in (3, 7, 13, 18, 23, 27)]
    kept = max((w for w in words if len(w) <= room), key=len, default=PAIR.source[:room])
    end = "</s>" if template else "\n\nSummary:"
    assert f"Shorten.\n\n{kept}{end}" in decoded(tokenizer, prompt.ids)


def test_prompt_that_cannot_fit() -> None:
    with pytest.raises(UserError, match="at most 5 tokens"):
        chat_prompt(PAIR, byte_tokenizer(), 5)
