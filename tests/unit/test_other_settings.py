"""One run, evaluated at several settings: every number stays, and every table shows its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from records_factory import record as made
from rich.console import Console

from flrc.pipeline import run
from flrc.reporting import main as report
from flrc.results.records.measurement import Measurement
from flrc.results.records.other_settings import asked, by_settings, combined
from flrc.results.records.record import OTHER_SETTINGS, Record
from flrc.results.records.show import listing, whole
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.group_names import group_names
from flrc.results.tables.runs_table import RunsTable
from flrc.running import evaluations
from flrc.running.finished import finished
from flrc.running.identity import run_folder

WIKI, C4, MEAN = "wikitext2/perplexity", "c4/perplexity", "zeroshot/mean_acc"


def at(name: str, value: float, **settings: Any) -> Measurement:
    return Measurement(name, value, "", False, None, 8, settings, 0.2)


def holding(latest: Sequence[Measurement], others: Sequence[Measurement] = ()) -> Record:
    """A record of a run with stages of every kind."""
    record = made("svdllm", measurements=[vars(m) for m in latest])
    record.meta["stages"] = [
        {"name": name, "seconds": seconds, "cached": False, "peak_bytes": None}
        for name, seconds in (("load", 1.0), ("decomposition", 2.0), ("wikitext2", 4.0))
    ]
    if others:
        record.results[OTHER_SETTINGS] = [vars(m) for m in others]
    return record


def after(*commands: list[Measurement]) -> Record:
    """The record after these commands, as JSON keeps it."""
    record: Record | None = None
    for measured in commands:
        following = holding([])
        following.results |= combined(measured, record).to_json()
        record = Record.from_json(following.to_json())
    assert record is not None
    return record


def test_nothing_is_lost_however_often_the_settings_change() -> None:
    long, short = at(WIKI, 20, length=2048), at(WIKI, 30, length=256)
    once = after([long])
    assert once.measurements == [long]
    assert OTHER_SETTINGS not in once.results  # a record as it always was
    both = after([long], [short])
    assert (both.measurements, both.other_settings) == ([short], [long])
    again = after([long], [short], [long], [short], [long])
    assert (again.measurements, again.other_settings) == ([long], [short])


def test_equal_settings_replace_and_other_names_stay() -> None:
    first, second = at(WIKI, 20, length=2048, limit=None), at(WIKI, 21, length=2048)
    mean, short = at(MEAN, 50, limit=9), at(WIKI, 30, length=256)
    record = after([first, mean], [short], [second])
    assert record.measurements == [second, mean]
    assert record.other_settings == [short]
    untouched = after([first, mean], [short], [])  # a command that evaluates nothing
    assert untouched.measurements == [short, mean]
    assert untouched.other_settings == [first]


def test_a_run_is_in_a_table_for_each_of_its_settings() -> None:
    """With every number that it has under them: none is called missing that was measured."""
    mean = at(MEAN, 50, limit=9)
    several = holding([at(WIKI, 30, length=256), mean], [at(WIKI, 20, length=2048)])
    other = made("kfac", measurements=[vars(at(WIKI, 22, length=2048)), vars(mean)])
    groups = settings_groups([several, other])
    assert [name.title for name in group_names(groups)] == ["length=256", "length=2048"]
    short, long = (RunsTable(group) for group in groups)
    assert [method for _, _, method in short.keys] == ["svdllm"]
    assert {method for _, _, method in long.keys} == {"svdllm", "kfac"}
    assert not short.notes.missing
    assert not long.notes.missing
    row = next(row for row in long.rows if "svdllm" in row)
    shown = {name: value.mean for name in (WIKI, MEAN) if (value := long.value(row, name))}
    assert shown == {WIKI: 20, MEAN: 50}


def values(records: Sequence[Record]) -> list[list[float]]:
    return [[m.value for m in record.measurements] for record in records]


def test_settings_that_belong_together_stay_together() -> None:
    others = [at(WIKI, 1, length=256), at(WIKI, 2, length=512), at(C4, 3, length=512)]
    record = holding([at(WIKI, 4, length=64), at(C4, 5, length=64)], others)
    assert values(by_settings(record)) == [[4, 5], [1], [2, 3]]


def test_no_table_mixes_what_different_commands_measured() -> None:
    record = after(
        [at(WIKI, 1, length=256, dataset="w"), at(C4, 2, length=256, dataset="c")],
        [at(C4, 3, length=512, dataset="c")],
        [at(WIKI, 4, length=64, dataset="w"), at(C4, 5, length=64, dataset="c")],
    )
    assert values(by_settings(record)) == [[4, 5], [3], [1, 2]]
    titles = [name.title for name in group_names(settings_groups([record]))]
    assert titles == ["length=64", "length=512", "length=256"]
    partly = after(  # the latest command measured one of two data sets
        [at(WIKI, 1, length=256), at(C4, 2, length=256)], [at(WIKI, 3, length=64)]
    )
    assert values(by_settings(partly)) == [[3], [1, 2]]


def test_another_evaluation_stands_beside_every_setting() -> None:
    """Also where a setting of the same name, with another value, is its own."""
    rouge = at("dialogsum/rougeL", 9, limit=8, max_new_tokens=4)
    arc = at("arc_easy/acc", 40, limit=10, shots=0)
    mean = at(MEAN, 50, tasks={task: {"limit": 10, "shots": 0} for task in ("a", "b")})
    record = after([rouge, at("arc_easy/acc", 30, shots=0)], [arc, mean])
    assert values(by_settings(record)) == [[40, 50, 9], [30, 9]]


def test_times_are_those_of_the_latest_command() -> None:
    record = holding([at(WIKI, 30, length=256)], [at(WIKI, 20, length=2048)])
    latest, other = (RunsTable(group) for group in settings_groups([record]))
    assert latest.value(latest.rows[0], "evaluate_seconds").mean == 4  # type: ignore[union-attr]
    assert other.value(other.rows[0], "evaluate_seconds") is None
    for table in (latest, other):
        assert table.value(table.rows[0], "compress_seconds").mean == 2  # type: ignore[union-attr]


def test_a_command_shows_what_it_asked_for() -> None:
    short, long, mean = at(WIKI, 30, length=256), at(WIKI, 20, length=2048), at(MEAN, 50)
    record = holding([short, mean], [long])
    one = asked(record, {short.key})
    assert (one.measurements, one.other_settings) == ([short], [])
    earlier = asked(record, {long.key})  # another process has measured since
    assert (earlier.measurements, earlier.other_settings) == ([long], [])
    assert [stage["name"] for stage in earlier.meta["stages"]] == ["load", "decomposition"]
    both = asked(record, {short.key, long.key})
    assert (both.measurements, both.other_settings) == ([short], [long])
    assert OTHER_SETTINGS not in record.only({WIKI}).results  # a study has one setting a column


def shown(*things: Any) -> str:
    console = Console(file=io.StringIO(), width=400)
    for thing in things:
        console.print(thing)
    return console.file.getvalue()  # type: ignore[attr-defined]


def perplexities(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip().startswith(WIKI)]


def test_two_commands_on_one_run_are_two_tables(
    run_config: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compress and evaluate for real, at 64, 128, 64 and 128 tokens."""

    def at_length(length: int) -> Any:
        datasets = "evaluation.perplexity.datasets=[wikitext2]"
        return run_config("method=svd", datasets, f"evaluation.perplexity.length={length}")

    def measured(record: Record) -> tuple[list[int], list[int]]:
        return (
            [m.settings["length"] for m in record.measurements],
            [m.settings["length"] for m in record.other_settings],
        )

    short, long = at_length(64), at_length(128)
    folder = run_folder(short)
    assert run_folder(long).path == folder.path
    values: dict[int, float] = {}
    for config, other in ((short, None), (long, 64), (short, 128), (long, 64)):
        length = config.evaluation["perplexity"].length
        assert finished(config, folder) is None  # never the other length's numbers
        record = run(config)
        assert record.run["status"] == "ok"
        assert measured(record) == ([length], [other] if other else [])
        (value,) = (m.value for m in record.measurements)
        assert values.setdefault(length, value) == value
        assert finished(config, folder) is not None
    assert values[64] != values[128]

    out, output = io.StringIO(), tmp_path / "report"
    page = tmp_path / "report.html"
    formats = ["--format", "markdown", "csv"]
    paths = [str(tmp_path / "runs"), "--output", str(output), "--html", str(page)]
    assert report([*paths, *formats], Console(file=out, width=200)) == 0
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if not line.startswith("[")] == []  # nothing but progress
    assert sorted(file.name for file in output.iterdir()) == sorted(
        f"table-length{length}.{ending}" for length in (64, 128) for ending in ("md", "csv")
    )
    for length, value in values.items():
        assert f"Settings: length={length}" in out.getvalue()
        assert repr(value) in (output / f"table-length{length}.csv").read_text()
    html = page.read_text()
    for words in ("length=64", "length=128", "of earlier commands, under other settings"):
        assert words in html

    record = folder.read_record()
    assert record is not None
    text = shown(whole(record))
    latest, _, others = text.partition("earlier commands, under other settings")
    assert [f"{values[128]:.6g}" in line for line in perplexities(latest)] == [True]
    assert [f"{values[64]:.6g}" in line for line in perplexities(others)] == [True]


def test_a_command_that_fails_loses_nothing(
    run_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no memory")

    lengths = [
        run_config("method=svd", f"evaluation.perplexity.length={length}") for length in (64, 128)
    ]
    first = run(lengths[0])
    with monkeypatch.context() as during:
        during.setattr(evaluations, "evaluate", broken)
        failed = run(lengths[1])
    assert failed.run["status"] == "failed"
    assert failed.measurements == first.measurements
    assert "no memory" in shown(listing([failed], datetime.now(UTC)))
    last = run(lengths[1])
    assert last.run["status"] == "ok"
    assert last.other_settings == first.measurements
