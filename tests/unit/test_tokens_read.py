"""The tokens are part of every cache key: tokenizers that make other tokens share nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_model
from tokenizers import AddedToken, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import flrc
from flrc.core import jsonfile
from flrc.library.tokenizer_digest import tokenizer_digest
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.results.records.measurement import Measurement, Outcome
from flrc.results.records.store import RunFolder

TEXTS = [f"The River Runs Over {n} Old Stones, And PEOPLE Walk There." for n in range(8)]
IDS = torch.arange(3, 40)[None]


def lowercase(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def split_digits(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )


def opening_token(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 256)]
    )


def added_token(tokenizer: Any) -> None:
    tokenizer.add_tokens([AddedToken("River", normalized=False)])


def chat_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages[0]['content'] }}"


class Shouting(PreTrainedTokenizerFast):
    """Its files do not show what its class does."""

    def __call__(self, text: Any, *arguments: Any, **options: Any) -> Any:
        return super().__call__(text.upper(), *arguments, **options)


def shouting(tokenizer: Any) -> None:
    tokenizer.__class__ = Shouting


def split_special(tokenizer: Any) -> None:
    """Set after loading, and not saved."""
    tokenizer.split_special_tokens = True


CHANGES = [
    lowercase, split_digits, opening_token, added_token, chat_template, shouting, split_special,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_digest_for_every_tokenizer(change: Callable[[Any], None]) -> None:
    one, other, changed = byte_tokenizer(), byte_tokenizer(), byte_tokenizer()
    change(changed)
    # State left by a call is not part of it.
    other(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_digest(one) == tokenizer_digest(other)
    assert tokenizer_digest(one) != tokenizer_digest(changed)


def test_the_origin_of_a_tokenizer_does_not_count(tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "a")
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path / "a")
    loaded.model_max_length = 77
    assert tokenizer_digest(loaded) == tokenizer_digest(byte_tokenizer())


class Shout:
    """A normaliser in Python, which cannot be saved."""

    def normalize(self, text: Any) -> None:
        text.uppercase()


def test_a_tokenizer_that_cannot_be_saved(tmp_path: Path) -> None:
    changed = byte_tokenizer()
    changed.backend_tokenizer.normalizer = normalizers.Normalizer.custom(Shout())
    assert tokenizer_digest(changed) != tokenizer_digest(byte_tokenizer())
    _, record = compressed(changed, tmp_path, "shared")
    assert record.run["status"] == "ok"


def compressed(tokenizer: Any, folder: Path, cache: str, *more: str) -> tuple[Any, Any]:
    model, record = flrc.compress(
        make_model("tiny_llama"), tokenizer, method="svdllm", rate=0.4, calibration=TEXTS,
        overrides=[f"paths.runs={folder / cache}", f"paths.cache={folder / cache}", *more],
    )  # fmt: skip
    return model(IDS).logits, record


@pytest.mark.parametrize("change", [lowercase, split_digits])
def test_tokenizers_of_one_vocabulary(change: Callable[[Any], None], tmp_path: Path) -> None:
    changed = byte_tokenizer()
    change(changed)
    plain, first = compressed(byte_tokenizer(), tmp_path, "shared")
    found, second = compressed(changed, tmp_path, "shared")
    own, _ = compressed(changed, tmp_path, "own")
    assert torch.equal(found, own)
    assert not torch.equal(found, plain)
    assert first.run["id"] != second.run["id"]
    assert first.meta["tokens"]["calibration"] != second.meta["tokens"]["calibration"]


PERPLEXITY = (
    "evaluation=[perplexity]", "evaluation.perplexity.datasets=[wikitext2]",
    "evaluation.perplexity.length=64", "evaluation.perplexity.windows=2",
)  # fmt: skip


def test_cache_and_evaluations_know_the_tokens_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a tokenizer's digest missed a difference, the tokens that were read would show it."""
    monkeypatch.setattr("flrc.library.tokenizer_digest.tokenizer_digest", lambda _: "the same")
    changed = byte_tokenizer()
    lowercase(changed)
    plain, first = compressed(byte_tokenizer(), tmp_path, "shared", *PERPLEXITY)
    found, second = compressed(changed, tmp_path, "shared", *PERPLEXITY)
    own, third = compressed(changed, tmp_path, "own", *PERPLEXITY)
    assert first.run["id"] != second.run["id"]  # the calibration that is given has other tokens
    assert torch.equal(found, own)
    assert not torch.equal(found, plain)
    values = [record.measurements[0].value for record in (first, second, third)]
    assert values[1] == values[2] != values[0]


def test_an_evaluation_on_other_tokens_counts_as_missing(tmp_path: Path) -> None:
    folder, settings = RunFolder(tmp_path), {"length": 64}
    m = Measurement("wikitext2/perplexity", 9.5, "perplexity", False, None, 2, settings, 0.2)
    folder.save_evaluation("perplexity", "wikitext2", settings, Outcome([m]), "these")
    assert folder.load_evaluation("perplexity", "wikitext2", settings, "these") is not None
    assert folder.load_evaluation("perplexity", "wikitext2", settings) is not None
    assert folder.load_evaluation("perplexity", "wikitext2", settings, "others") is None
    # What version 0.1 wrote has no digest, and is kept.
    file = folder.evaluation_file("perplexity", "wikitext2", settings)
    values = jsonfile.read(tmp_path / file)
    del values["tokens"]
    jsonfile.write(tmp_path / file, values)
    assert folder.load_evaluation("perplexity", "wikitext2", settings, "these") is not None
