"""Prompts generated one at a time or together: the same replies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import Call, Place, read


@pytest.fixture(scope="session")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny model whose replies depend on the whole prompt.

    Weights as small as a model is usually initialised with repeat the last token, whatever came
    before it; a wrong mask or position would not show.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from flrc.models.sources.byte_tokenizer import byte_tokenizer
    from flrc.models.sources.shapes import SHAPES

    folder = tmp_path_factory.mktemp("models") / "talkative"
    config = AutoConfig.for_model(**SHAPES["tiny_llama"], initializer_range=0.25)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_batch_size_does_not_change_the_replies(
    tmp_path: Path, data_root: Path, talkative: Path, call: Call
) -> None:
    """In float64, so that no tie between two tokens is decided by rounding."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for batch in (1, 8):
        place = Place(tmp_path / str(batch), data_root)
        ended = call(
            "model=local",
            f"model.path={talkative}",
            "dtype=float64",
            "method=flrc",
            "rate=0.3",
            "evaluation=summarization",
            "evaluation.summarization.limit=8",
            f"evaluation.summarization.batch_size={batch}",
            at=place,
        )
        assert ended.code == 0, ended.text[-3000:]
        (file,) = place.runs.glob("*/*/evaluations/summarization.*.json")
        outcome = read(file)
        found[batch] = {item["id"]: item for item in outcome["items"]}
        assert "batch_size" not in outcome["settings"]
    assert len(found[1]) == 8
    assert len({item["prompt_tokens"] for item in found[1].values()}) > 1, "nothing is padded"
    assert len({tuple(item["tokens"]) for item in found[1].values()}) > 4, "replies are all alike"
    for name, alone in found[1].items():
        together = found[8][name]
        for key in ("tokens", "reply", "rougeL", "dense_agreement"):
            assert together[key] == alone[key], (name, key)
        assert together["bertscore_f1"] == pytest.approx(alone["bertscore_f1"], abs=1e-3)
