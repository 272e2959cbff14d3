"""A command ends with the table of what it asked for, also where its run has other settings."""

from __future__ import annotations

import re

from running import Call, Ended, Place

RUN = ("method=svd", "evaluation=[perplexity]", "evaluation.perplexity.datasets=[wikitext2]")


def lengths(ended: Ended) -> list[str]:
    """The lengths in the lines under the tables of a command."""
    assert ended.code == 0, ended.text
    return re.findall(r"^Data: .* x (\d+) tokens of wikitext2", ended.out, re.MULTILINE)


def test_a_command_shows_its_own_settings_and_a_report_all(call: Call, place: Place) -> None:
    short, long = (f"evaluation.perplexity.length={length}" for length in (64, 128))
    assert lengths(call(*RUN, short)) == ["64"]
    assert lengths(call(*RUN, long)) == ["128"]
    assert lengths(call(*RUN, short)) == ["64"]
    again = call(*RUN, short)
    assert lengths(again) == ["64"]
    assert "done already" in again.text
    both = call("-m", *RUN, "evaluation.perplexity.length=64,128")
    assert sorted(lengths(both)) == ["128", "64"]
    (record,) = place.records().values()
    kept = [record["results"][key] for key in ("measurements", "other_settings")]
    assert [[m["settings"]["length"] for m in measured] for measured in kept] == [[128], [64]]
