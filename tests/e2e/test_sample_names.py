"""What ran on sample data never carries a benchmark's name, in no key or label of any output."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from running import Call, Ended, Place, read

from flrc import records, reporting
from flrc.data.dataset_catalog import DATASETS
from flrc.evaluation.perplexity import Perplexity
from flrc.results.records.store import RunFolder, find_folders
from flrc.tracking.run_page import run_page

ALL = (
    "method=svd",
    "rate=0.2",
    "data=sample",
    "evaluation=[perplexity,summarization,zeroshot,efficiency]",
    "evaluation.perplexity.windows=2",
    "evaluation.summarization.datasets=[dialogsum,cnn_dailymail]",
    "evaluation.summarization.limit=2",
    "evaluation.summarization.max_prompt_tokens=96",
    "evaluation.summarization.max_new_tokens=2",
    "evaluation.zeroshot.limit=2",
    "evaluation.efficiency.prompt_tokens=4",
    "evaluation.efficiency.new_tokens=4",
    "evaluation.efficiency.repeats=1",
)
BENCHMARK = re.compile(rf"(?<!\w)({'|'.join(DATASETS)})(?!\w)")
"""Any of their names as a word: ``sample_arc_easy`` is the name of the sample."""
VALUE = re.compile(r'(=|: )(\[[^\]]*\]|[^\s,;]+)|\["[^\]]*\]')
"""A setting's value, as in ``task=arc_easy``: what was asked for, on whatever data."""
TEXTS = (
    "method=svd",
    "data=sample",
    "evaluation=[perplexity]",
    "evaluation.perplexity.datasets=[c4]",
)


@pytest.fixture
def ran(place: Place, call: Call) -> Ended:
    """Every evaluation on the sample; and another run, to be compared with."""
    ended = call(*ALL)
    assert ended.code == 0, ended.text[-3000:]
    assert call(*TEXTS, "rate=0.3").code == 0
    return ended


def keys(node: Any) -> Iterator[str]:
    """Every key of nested mappings and sequences."""
    if isinstance(node, dict):
        for key, inner in node.items():
            yield str(key)
            yield from keys(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from keys(inner)


def labels(record: dict[str, Any]) -> Iterator[str]:
    """Every key of a record and every name of a stage or measurement."""
    yield from keys(record)
    yield from (stage["name"] for stage in record["meta"]["stages"])
    yield from (measurement["name"] for measurement in record["results"]["measurements"])


def assert_none(words: Any, where: str) -> None:
    found = [word for word in words if BENCHMARK.search(word)]
    assert not found, f"{where}: {found[:5]}"


def printed(*arguments: str) -> list[str]:
    """The lines of ``python -m flrc.records``."""
    console = Console(file=io.StringIO(), width=200)
    assert records.main(arguments, console) == 0
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_no_output_has_a_benchmarks_name(ran: Ended, place: Place, tmp_path: Path) -> None:
    lines = [VALUE.sub("", line) for line in ran.text.splitlines() if "[HYDRA]" not in line]
    assert any("sotu_modern" in line for line in lines)
    assert_none(lines, "terminal")
    found = find_folders(place.runs)
    assert len(found) == 2
    for folder, record in found[:1]:
        assert_none(labels(read(folder.path / "record.json")), "record")
        parts = list((folder.path / "evaluations").glob("*.json"))
        assert len(parts) == 2 + 2 + 7 + 2
        assert_none((path.name.replace(".", " ") for path in parts), "evaluations")
        assert_none((str(read(path)["part"]) for path in parts), "evaluations")
        page = run_page(record, folder.path)
        assert_none([*page.summary, *keys(page.config)], "W&B")
        rows = page.tables["samples"].rows
        assert_none((str(row[0]) for row in rows), "W&B")
        assert {row[0] for row in rows} == {"sample_dialogues", "sample_articles"}
    ids = [str(record.run["id"]) for _, record in found]
    runs = ("--runs", str(place.runs))
    difference = printed("diff", *ids, *runs)
    assert any(line.strip().startswith("sotu_early loss") for line in difference)
    assert_none((VALUE.sub("", line) for line in difference), "diff")
    assert_none((VALUE.sub("", line) for line in printed("show", ids[0], *runs)), "show")
    page_file, tables = tmp_path / "report.html", tmp_path / "tables"
    assert reporting.main([str(place.runs), "--output", str(tables)]) == 0
    assert reporting.main([str(place.runs), "--html", str(page_file)]) == 0
    for file in sorted([page_file, *tables.glob("*.[mct]*")]):
        text = html.unescape(file.read_text("utf-8"))
        text = re.sub(r"(?s)<script.*?</script>|<style.*?</style>|</span>[^<]*</li>", "", text)
        assert_none((VALUE.sub("", line) for line in text.splitlines()), file.name)


def test_runs_of_earlier_versions_are_done(
    place: Place, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(Perplexity, "label", lambda self, part, data: part)
        assert call(*TEXTS).code == 0
    folder = place.folder("svd-")
    (file,) = (folder / "evaluations").iterdir()
    assert file.name.startswith("perplexity.c4-")
    assert "done already, nothing computed" in call(*TEXTS).err
    assert call(*TEXTS, "force=true").code == 0
    (file,) = (folder / "evaluations").iterdir()
    assert file.name.startswith("perplexity.sotu_early-")
    record = RunFolder(folder).read_record()
    assert record is not None
    assert record.meta["stages"][-1]["name"] == "perplexity sotu_early"
