"""What a command ends with: a short footer under its table, and where W&B has its runs."""

from __future__ import annotations

import pytest
from running import Call, Place

PERPLEXITY = ("method=svdllm", "rate=0.2", "evaluation=perplexity")


def test_one_run_has_three_lines_under_its_table_and_all_settings_in_the_file(
    place: Place, call: Call
) -> None:
    ended = call("method=svdllm", "rate=0.2")
    assert ended.code == 0, ended.text[-3000:]
    below = ended.out.partition("\nruns:\n")[0].rpartition("\n\n")[2].splitlines()
    assert 1 <= len(below) <= 3
    assert "x 128 tokens each of wikitext2 (test), c4" in " ".join(below)
    assert "4 items of dialogsum (test)" in " ".join(below)
    assert "max_new_tokens" not in " ".join(below)
    (page,) = (place.runs / "tables").rglob("table.md")
    settings = page.read_text("utf-8").partition("**Settings**")[2]
    assert settings.count("max_new_tokens=8") == 1
    assert settings.count("- dialogsum: ") == 1


def test_with_wandb_the_last_lines_say_where_the_runs_are(place: Place, call: Call) -> None:
    pytest.importorskip("wandb")
    wandb = "tracker=wandb", "tracker.mode=offline"
    ended = call(*PERPLEXITY, *wandb)
    (files,) = (place.runs / "wandb").glob("offline-run-*")
    last = [
        f"W&B, offline in {place.runs / 'wandb'}; this uploads it:",
        f"  wandb sync {files}",
    ]
    assert ended.out.splitlines()[-2:] == last
    assert call(*PERPLEXITY, *wandb).out.splitlines()[-2:] == last, "nothing new was computed"
    assert "W&B" not in call(*PERPLEXITY).text
