"""The text under a table: short in a terminal, complete but without repetition in a file."""

from __future__ import annotations

import io

import pytest
import records_factory as factory
from rich.console import Console

from flrc.results.pages.report import print_tables
from flrc.results.records.record import Record
from flrc.results.tables.footer import ROOM
from flrc.results.tables.markdown import markdown_page
from flrc.results.tables.runs_table import RunsTable

TASKS = ("arc_easy", "hellaswag", "piqa")
BY_TASK = {
    task: {"task": task, "data": digit * 64, "limit": 100, "metric": "acc", "split": "test"}
    for task, digit in zip(TASKS, "abc", strict=True)
}
DIALOGUES = {"version": 1, "dataset": "sample_dialogues", "split": "test", "max_new_tokens": 48}
SPEED = {"batch": 1, "new_tokens": 8, "runtime": "eager", "torch": "2.13.0", "version": 1}


def measured(spent: float = 0.2, tasks: tuple[str, ...] = TASKS) -> list[dict]:
    """Perplexity on two texts, summaries of dialogues, questions and their mean, and speed."""
    window = {"version": 1, "split": "test", "windows": 2, "length": 2048}
    of_task = {task: BY_TASK.get(task) or BY_TASK["piqa"] | {"task": task} for task in tasks}
    return [
        *(
            factory.measurement(f"{name}/perplexity", 9, 0.2, settings=window | {"dataset": name})
            for name in ("sotu_modern", "c4")
        ),
        *(
            factory.measurement(f"sample_dialogues/{m}", 9, spent, settings=DIALOGUES, count=12)
            for m in ("rougeL", "reply_tokens")
        ),
        *(
            factory.measurement(f"{task}/acc", 9, 0.2, settings=values, count=100)
            for task, values in of_task.items()
        ),
        factory.measurement(
            "zeroshot/mean_acc",
            9,
            0.2,
            count=300,
            settings={"metric": "mean_acc", "tasks": of_task},
        ),
        factory.measurement("decode/tokens_per_second", 9, 0.2, count=3, settings=SPEED),
    ]


def under(records: list[Record], width: int = 160) -> list[str]:
    """The lines under the table."""
    out = io.StringIO()
    print_tables(records, Console(file=out, width=width, markup=False, highlight=False))
    return [line.rstrip() for line in out.getvalue().rpartition("\n\n")[2].splitlines()]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_one_row_has_a_footer_of_three_lines(width: int) -> None:
    sample = [m for m in measured(0.3) if m["name"].startswith(("sotu", "sample"))]
    others = [m for m in measured() if not m["name"].startswith(("sotu", "sample"))]
    early = {"split": "validation", "windows": 2, "length": 2048}
    sample.insert(1, factory.measurement("sotu_early/perplexity", 9, 0.2, settings=early))
    for kept in (sample, others):
        lines = under([factory.record("flrc", measurements=kept)], width)
        assert len(lines) <= ROOM == 3
        assert max(map(len, lines)) <= width
    text = " ".join(under([factory.record("flrc", measurements=sample)], width))
    assert text == (
        "Sample data, not comparable with published numbers: 2 x 2048 tokens each of sotu_modern "
        "(test), sotu_early (validation); 12 items of sample_dialogues (test). sample_dialogues "
        "at its own rate, the rest at the realised one."
    )


def test_what_is_said_of_each_kind_of_data() -> None:
    (text,) = {" ".join(under([factory.record(measurements=measured())]))}
    assert "Data: 2 x 2048 tokens of c4 (test); 100 items each of arc_easy, hellaswag" in text
    assert "zeroshot (mean over 3 tasks, 300 items); decode (batch=1, new_tokens=8" in text
    assert "Sample data, not comparable" in text
    assert "own rate" not in text, "all numbers were taken at the realised rate"
    for word in ("torch", "version", "max_new_tokens", "limit", "\N{EN DASH}", "*"):
        assert word not in text
    assert "Sample" not in " ".join(under([factory.record()]))


def test_where_many_data_sets_do_not_fit_they_are_counted() -> None:
    tasks = tuple(f"mmlu_{k}" for k in range(57))
    kept = [m for m in measured(tasks=tasks) if m["name"].startswith("mmlu")]
    kept[3]["count"] = 234
    (line,) = under([factory.record(measurements=kept)])
    assert line == "Data: 100 to 234 items each of 57 data sets (test)."


def test_signs_are_explained_where_they_stand() -> None:
    marks = "*: best of its column among the methods at one rate (dense excluded)."
    dash = "\N{EN DASH}: nothing was done there, or a part of it was read from the cache."
    both = [factory.record(m, measurements=[factory.measurement("c4/acc", v, 0.2)])
            for m, v in (("svdllm", 9), ("kfac", 8))]  # fmt: skip
    assert under(both)[0] == marks
    assert dash not in under(both)
    for stage in both[1].meta["stages"]:
        stage["cached"] = True
    assert under(both)[:2] == [marks, dash]
    assert not any("\N{EN DASH}" in line for line in under(both[1:])), "it has no such column"
    seeds = [factory.record("svdllm", seed=seed) for seed in (0, 1)]
    assert under(seeds)[0].startswith("±: sample standard deviation over n seeds (n - 1). ")
    assert len(under(seeds)) <= ROOM


def test_a_file_states_every_setting_once() -> None:
    page = markdown_page(RunsTable([factory.record(measurements=measured())]))
    listed = page.partition("**Settings**")[2].partition("**Made with**")[0].split("\n- ")[1:]
    assert [line.strip() for line in listed] == [
        "sotu_modern: version=1, split=test, windows=2, length=2048",
        "c4: version=1, split=test, windows=2, length=2048",
        "sample_dialogues: version=1, split=test, max_new_tokens=48",
        *(
            f"{task}: data={digit * 12}, limit=100, metric=acc, split=test"
            for task, digit in zip(TASKS, "abc", strict=True)
        ),
        "zeroshot: metric=mean_acc, tasks=arc_easy+hellaswag+piqa",
        "decode: batch=1, new_tokens=8, runtime=eager, torch=2.13.0, version=1",
    ]
    assert "- commit: 0123456789ab, device: cpu, dtype: float32, threads: 2\n" in page


def test_settings_that_the_metrics_of_a_data_set_do_not_share_name_the_metrics() -> None:
    kept = [
        factory.measurement("c4/perplexity", 9, 0.2, settings={"dataset": "c4", "windows": 2}),
        factory.measurement("c4/acc", 9, 0.2, settings={"dataset": "other"}),
        factory.measurement("mean/acc", 9, 0.2, settings={"tasks": {"x": {"task": "x"}}}),
    ]
    assert RunsTable([factory.record(measurements=kept)]).notes.settings == [
        "c4/perplexity: dataset=c4, windows=2",
        "c4/acc: dataset=other",
        "mean: tasks.x.task=x",
    ]


def test_what_runs_do_not_share_is_counted() -> None:
    records = [factory.record(m) for m in ("svdllm", "kfac")]
    records[1].meta["threads"] = 8
    lines = RunsTable(records).notes.provenance
    assert lines[0] == "commit: 0123456789ab, device: cpu, dtype: float32"
    assert "threads: 2 (1 run); 8 (1 run)" in lines
