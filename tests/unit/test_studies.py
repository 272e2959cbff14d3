"""Studies: facts, cells, the page, the files, and records that travel between folders."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from records_factory import measurement, record
from study_factory import EXPECTED, LAYOUT, job, perplexity, study_folder

from flrc.errors import UserError
from flrc.records import jsonfile
from flrc.records.record import Record
from flrc.records.store import RunFolder
from flrc.reporting.grid import MISSING, Grid
from flrc.studies import collect, manifest, orders, page, render
from flrc.studies.cells import MixedVersions, Value, allocation_seconds, derived, runs_of, value
from flrc.studies.facts import facts_of, matches
from flrc.studies.layout import Layout, read_expected, read_layout
from flrc.studies.manifest import Job
from flrc.studies.study import of_records


def text(grid: Grid | None) -> list[list[str]]:
    assert grid is not None
    return [[*row.labels, *(cell.text for cell in row.cells)] for row in grid.rows]


def test_facts_of_a_dense_run_contradict_nothing_but_model_and_method() -> None:
    dense, flra = facts_of(record("dense").run["config"]), facts_of(record("flra").run["config"])
    assert dense == {"model": "smollm2_135m", "method": "dense", "rate": 0.0}
    assert matches(dense, {"rate": 0.0, "calibration": "c4", "quantization": "int8"})
    assert not matches(dense, {"method": "flra"})
    assert flra["sensitivity"] == "fisher"
    assert flra["samples"] == 16
    assert not matches(flra, {"sensitivity": "weight"})


def test_a_cell_is_mean_and_deviation_over_seeds_and_refuses_two_runs_of_one_seed() -> None:
    layout = Layout("", "", ["rate", "method"], {"wikitext2/perplexity": "x"})
    seeds = [perplexity("svdllm", at, seed=n) for n, at in enumerate((10.0, 12.0, 17.0))]
    found = value(runs_of(seeds, layout), {"method": "svdllm", "rate": 0.2}, "wikitext2/perplexity")
    assert found is not None
    assert (found.mean, found.count) == (13.0, 3)
    assert found.deviation == pytest.approx((13.0) ** 0.5)  # (9 + 1 + 16) / 2
    assert found.error == pytest.approx((13.0 / 3) ** 0.5)
    twice = [perplexity("svdllm", 10.0), perplexity("svdllm", 11.0, config={"extra": {"k": 1}})]
    with pytest.raises(UserError, match="two runs of one seed"):
        value(runs_of(twice, layout), {"method": "svdllm"}, "wikitext2/perplexity")


def test_a_table_never_mixes_versions_settings_or_rates() -> None:
    layout = Layout("", "", ["method"], {"wikitext2/perplexity": "x"})
    old = perplexity("flra", 9.0)
    old.meta["versions"] = {"torch": "2.12.0", "transformers": "5.23.0"}
    with pytest.raises(MixedVersions, match=r"torch.*\n.*2\.13\.0"):
        runs_of([perplexity("svdllm", 10.0), old], layout)
    far = record("svdllm", 0.2, 1, measurements=[measurement("wikitext2/perplexity", 9.0, 0.3)])
    with pytest.raises(UserError, match="mix rates"):
        value(runs_of([perplexity("svdllm", 10.0), far], layout), {}, "wikitext2/perplexity")


def test_the_page_has_ours_the_papers_and_the_verdicts(tmp_path: Path) -> None:
    records = [perplexity("dense", 20.0), perplexity("svdllm", 90.0), perplexity("flra", 50.0)]
    found = of_records(study_folder(tmp_path), records, [job(r) for r in records])
    assert found is not None
    ours, beside, papers, claims = page.page(found)
    assert beside.grid is not None
    assert [column.name for column in beside.grid.columns] == ["model/bytes_of_dense"]
    assert text(ours.grid) == [
        ["-", "Baseline", "20.00", "1.00"],
        ["20 %", "SVD-LLM", "90.00", "0.80"],
        ["20 %", "FLRC", "50.00", "0.80"],
    ]
    assert ours.grid is not None
    assert [row.cells[0].best for row in ours.grid.rows] == [False, False, True]
    assert ours.runs is not None
    assert ours.runs[2][0] == [records[2].run["id"]]
    assert [row[:3] for row in text(papers.grid)] == [
        ["-", "Baseline", "6.00"],
        ["20 %", "SVD-LLM", "14.00"],
        ["20 %", "FLRC", "12.00"],
    ]
    assert text(claims.grid) == [
        ["FLRC", "SVD-LLM", "Wiki2 perplexity", "20 %", "12 / 14", "50.00 / 90.00", "holds"]
    ]


def test_the_rate_that_was_spent_is_that_of_the_number_furthest_from_the_asked(
    tmp_path: Path,
) -> None:
    """Perplexity on the constant plan must not hide what the schedule spent beside it."""
    columns = [*LAYOUT["columns"], {"name": "dialogsum/rougeL", "title": "ROUGE-L"}]
    layout = LAYOUT | {"columns": columns}
    runs = [
        record(method, 0.3, measurements=[
            measurement("wikitext2/perplexity", 50.0, 0.3),
            measurement("dialogsum/rougeL", 10.0, spent),
        ])
        for method, spent in (("svdllm", 0.3), ("flrc", 0.311))
    ]  # fmt: skip
    names = ("wikitext2/perplexity", "dialogsum/rougeL")
    found = of_records(study_folder(tmp_path, layout), runs, [job(run, names) for run in runs])
    assert found is not None
    grid = page.page(found)[0].grid
    assert grid is not None
    assert [head.metric for head in grid.columns][2] == "rate spent"
    assert [row.cells[2].text for row in grid.rows] == ["30.0 %", "31.1 %"]


def test_a_missing_cell_says_what_fills_it(tmp_path: Path) -> None:
    there, absent = perplexity("svdllm", 90.0), perplexity("flra", 50.0)
    found = of_records(study_folder(tmp_path), [there], [job(there), job(absent, ())])
    assert found is not None
    ours = page.page(found)[0].grid
    assert ours is not None
    assert text(ours)[1] == ["20 %", "FLRC", MISSING, MISSING]
    assert ours.rows[1].cells[0].note == 1
    assert ours.footnotes == ["not measured yet: python run.py method=flra"]
    for file in render.render(found, tmp_path / "out", {}, ["markdown", "latex"]):
        assert "[1] not measured yet: python run.py method=flra" in file.read_text("utf-8")


def test_a_cell_that_lacks_a_seed_says_so(tmp_path: Path) -> None:
    one, two = perplexity("svdllm", 90.0), perplexity("svdllm", 92.0, seed=1)
    found = of_records(study_folder(tmp_path), [one], [job(one), job(two, ())])
    assert found is not None
    grid = page.page(found)[0].grid
    assert grid is not None
    assert text(grid) == [["20 %", "SVD-LLM", "90.00", "0.80"]]
    assert grid.rows[0].cells[0].note == 1
    assert grid.footnotes == ["not measured yet: python run.py method=svdllm"]


def test_the_rate_stands_beside_a_number_that_was_not_taken_at_the_asked_one(
    tmp_path: Path,
) -> None:
    spent = record("flrc", 0.2, measurements=[measurement("wikitext2/perplexity", 30.0, 0.213)])
    found = of_records(study_folder(tmp_path), [spent], [])
    assert found is not None
    grid = page.page(found)[0].grid
    assert grid is not None
    assert [c.metric for c in grid.columns] == ["Wiki2 perplexity", "rate spent", "stored / dense"]
    assert text(grid) == [["20 %", "FLRC", "30.00", "21.3 %", "0.80"]]


def test_ours_minus_the_papers_where_the_model_is_the_same(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    expected = json.loads(json.dumps(EXPECTED))
    for row in expected["rows"]:
        row["where"]["model"] = "smollm2_135m"
    (folder / "expected.yaml").write_text(yaml.safe_dump(expected), "utf-8")
    found = of_records(folder, [perplexity("svdllm", 90.0)], [])
    assert found is not None
    (difference,) = (s for s in page.page(found) if "minus" in s.title)
    assert text(difference.grid) == [["20 %", "SVD-LLM", "76.00"]]


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ((16.0, 0.5), (10.0, 0.5), "holds"),
        ((11.0, 0.5), (10.0, 0.5), "not separated"),
        ((9.5, 0.5), (10.0, 0.5), "not separated, reversed"),
        ((8.0, 0.5), (10.0, 0.5), "does not hold"),
        ((10.1, None), (10.0, None), "holds"),
        ((10.0, None), (10.0, None), "not separated"),
        ((float("nan"), None), (10.0, None), "a number is not finite"),
    ],
)
def test_verdicts(better: tuple[float, float], worse: tuple[float, float], verdict: str) -> None:
    made = [Value(v, None, e, 1, 0.2, [], "%", True) for v, e in (better, worse)]
    assert orders.verdict(made[0], made[1], "dialogsum/rougeL") == verdict


def test_perplexities_of_the_same_tokens_need_no_error() -> None:
    made = [Value(v, None, 40.0, 1, 0.2, [], "perplexity", False) for v in (50.0, 51.0)]
    assert orders.verdict(made[0], made[1], "wikitext2/perplexity") == "holds"
    assert orders.verdict(made[1], made[0], "wikitext2/perplexity") == "does not hold"


def test_seconds_of_an_allocation() -> None:
    made = perplexity("flra", 50.0)
    made.results["search"] = {"probes": 3, "seconds": 40.0}
    made.meta["stages"] = [
        {"name": "sensitivity", "seconds": 30.0, "cached": False},
        {"name": "allocation", "seconds": 2.0, "cached": False},
    ]
    assert allocation_seconds(made) == 70.0  # the probes' own time, though they were kept
    made.meta["stages"][0]["cached"] = True
    assert allocation_seconds(made) is None
    sizes = made.results["bytes"]
    # Of 100 weights of targets 80 are met by a token, and 50 of the head.
    made.results["parameters"] |= {"targets_dense": 100, "targets_activated": 80}
    made.results["parameters"]["targets_stored"] = 80
    made.results["flops_per_token"] = 2 * (80 + 50)
    assert {m.name: m.value for m in derived(made)} == {
        "targets/stored": pytest.approx(0.8),
        "model/flops_of_dense": pytest.approx(130 / 150),
        "model/bytes_of_dense": sizes["model_stored"] / sizes["model_dense"],
    }


def test_files_hold_every_number_and_the_way_to_its_record(tmp_path: Path) -> None:
    records = [perplexity("dense", 20.0), perplexity("svdllm", 90.125), perplexity("flra", 50.5)]
    found = of_records(study_folder(tmp_path), records, [job(r) for r in records])
    assert found is not None
    run_id = str(records[1].run["id"])
    written = render.render(found, tmp_path / "out", {run_id: "results/x/record.json"},
                            ["markdown", "latex", "csv"])  # fmt: skip
    assert [path.name for path in written] == ["table.md", "table.tex", "table.csv"]
    markdown, latex, table = (path.read_text("utf-8") for path in written)
    assert f"[{run_id}](results/x/record.json)" in markdown
    assert "0123456789" in markdown  # the commit
    assert "python run.py method=svdllm" in markdown
    assert re.search(r"\| 20 % \| SVD-LLM +\| +90\.12 \| +0\.80 \|", markdown)
    assert r"\begin{tabular}{rlrr}" in latex
    assert r"\cmidrule" not in latex  # no groups of columns
    rows = list(csv.DictReader(io.StringIO(table)))
    ours = {r["method"]: r["value"] for r in rows
            if r["source"] == "here" and r["measurement"] == "wikitext2/perplexity"}  # fmt: skip
    assert ours == {"dense": "20.0", "svdllm": "90.125", "flrc": "50.5"}
    assert sum(r["source"] == "paper" for r in rows) == 3


def test_records_go_to_the_results_and_back(tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    made = record("svdllm", 0.2, measurements=[
        measurement("wikitext2/perplexity", 90.0, 0.2), measurement("c4/perplexity", 95.0, 0.2),
    ])  # fmt: skip
    the_job = job(made)
    folder = RunFolder(runs / the_job.folder)
    folder.write_record(made)
    for name in ("wikitext2", "c4"):
        (own,) = (m for m in made.results["measurements"] if m["name"].startswith(name))
        folder.write_json(
            f"evaluations/perplexity.{name}-0.json", {"measurements": [own], "items": []}
        )
    manifest.write(collect.manifest_folder(runs, "table99", "small"), [the_job])
    (results / "stale").mkdir(parents=True)

    (kept,) = collect.collect(runs, "table99", "small", results)
    assert sorted(p.name for p in results.iterdir()) == sorted([kept.name, "jobs.json"])
    assert [p.name for p in kept.glob("evaluations/*")] == ["perplexity.wikitext2-0.json"]
    again = RunFolder(kept).read_record()
    assert again is not None
    assert [m.name for m in again.measurements] == ["wikitext2/perplexity"]  # the study's own
    assert again.meta == made.meta

    elsewhere = tmp_path / "elsewhere"
    assert collect.restore(results, elsewhere) == [elsewhere / the_job.folder]
    assert collect.restore(results, elsewhere) == []  # nothing is written twice
    values = jsonfile.read(elsewhere / the_job.folder / "evaluations/perplexity.wikitext2-0.json")
    assert values["measurements"][0]["value"] == 90.0

    (runs / the_job.folder / "record.json").unlink()
    assert collect.collect(runs, "table99", "small", results) == [kept]  # a kept one stays


def test_collecting_what_was_not_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was not run here"):
        collect.collect(tmp_path, "table99", "small", tmp_path / "results")


def test_malformed_files_are_named(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    (folder / "table.yaml").write_text("caption: x\nrowz: [a]\ncolumns: []\n", "utf-8")
    with pytest.raises(UserError, match=r"table\.yaml"):
        read_layout(folder)
    (folder / "expected.yaml").write_text("[1, 2]", "utf-8")
    with pytest.raises(UserError, match=r"expected\.yaml"):
        read_expected(folder)
    assert read_layout(tmp_path) is None


def test_a_run_is_what_the_study_asked_for_not_what_first_computed_it(tmp_path: Path) -> None:
    shared = perplexity("flra", 50.0)
    asked = Job(shared.run["id"], "m/x", facts_of(shared.run["config"]) | {"method": "svdllm"}, 0,
                ["wikitext2/perplexity"], "python run.py")  # fmt: skip
    both = [asked, job(shared)]
    manifest.write(tmp_path, both)
    assert manifest.read(tmp_path) == both  # one run, two places in the table
    found = of_records(study_folder(tmp_path), [shared], both)
    assert found is not None
    assert text(page.page(found)[0].grid) == [
        ["20 %", "SVD-LLM", "50.00", "0.80"],
        ["20 %", "FLRC", "50.00", "0.80"],
    ]


def with_scores(
    tmp_path: Path, scores: dict[tuple[str, int], list[float]]
) -> tuple[Path, list[Record], dict[str, RunFolder]]:
    """A study of ROUGE-L: method and seed -> the scores of its items."""
    layout = LAYOUT | {"columns": [{"name": "dialogsum/rougeL", "title": "ROUGE-L"}]}
    folder = study_folder(tmp_path, layout)
    order = {"metric": "dialogsum/rougeL", "above": {"method": "flrc"},
             "below": {"method": "svdllm"}}  # fmt: skip
    (folder / "expected.yaml").write_text(yaml.safe_dump(EXPECTED | {"orders": [order]}), "utf-8")
    made, folders = [], {}
    for (method, seed), of_items in scores.items():
        own = measurement("dialogsum/rougeL", sum(of_items) / len(of_items), 0.2, stderr=13.0)
        made.append(record(method, 0.2, seed, measurements=[own]))
        at = RunFolder(tmp_path / f"{method}-{seed}")
        items = [{"id": str(k), "rougeL": score} for k, score in enumerate(of_items)]
        at.write_json("evaluations/s.json", {"evaluation": "summarization", "part": "dialogsum",
                                             "settings": {}, "measurements": [own],
                                             "items": items})  # fmt: skip
        folders[str(made[-1].run["id"])] = at
    return folder, made, folders


def verdict_of(
    folder: Path, made: list[Record], folders: dict[str, RunFolder] | None = None
) -> list[str]:
    found = of_records(folder, made, [], folders)
    assert found is not None
    return text(page.page(found)[-1].grid)[0][-2:]


def test_items_of_both_runs_decide_where_they_are_at_hand(tmp_path: Path) -> None:
    """A gain of one point on every item is one, however far the items lie apart."""
    items = [float(10 * k) for k in range(20)]
    folder, made, folders = with_scores(
        tmp_path, {("svdllm", 0): items, ("flra", 0): [score + 1.0 for score in items]}
    )
    assert verdict_of(folder, made) == ["96.00 / 95.00", "not separated"]
    assert verdict_of(folder, made, folders) == ["96.00 / 95.00 (+1.0 to +1.0)", "holds"]


def test_several_seeds_are_compared_in_pairs(tmp_path: Path) -> None:
    """Seeds lie far apart, the gain is 1, 2, 3 of them; on the items it is the same or is not."""
    items = [float(10 * k) for k in range(20)]
    even = {
        (method, seed): [score + 40.0 * seed + gain * (seed + 1) for score in items]
        for method, gain in (("svdllm", 0.0), ("flra", 1.0))
        for seed in range(3)
    }
    folder, made, folders = with_scores(tmp_path, even)
    # 2 -+ 4.303 / sqrt(3): the seeds are what is uncertain.
    assert verdict_of(folder, made, folders) == ["137.00 / 135.00 (-0.5 to +4.5)", "not separated"]
    # The same gain on every seed, but all of it from two items: the items are.
    few = {
        (method, seed): [score + gain * (20.0 if k < 2 else 0.0) for k, score in enumerate(items)]
        for method, gain in (("svdllm", 0.0), ("flra", 1.0))
        for seed in range(3)
    }
    folder, made, folders = with_scores(tmp_path / "few", few)
    assert verdict_of(folder, made) == ["97.00 / 95.00 (+2.0 to +2.0)", "holds"]
    assert verdict_of(folder, made, folders) == ["97.00 / 95.00 (+0.0 to +5.0)", "not separated"]
    # Other seeds on one side: no pairs, the spread over seeds decides.
    other = {key: of for key, of in even.items() if key != ("flra", 2)}
    folder, made, folders = with_scores(tmp_path / "other", other)
    assert verdict_of(folder, made, folders) == ["116.50 / 135.00", "not separated, reversed"]


def test_perplexities_of_several_seeds_are_compared_in_pairs(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    made = [perplexity("svdllm", at, seed=k) for k, at in enumerate((90.0, 70.0, 80.0))]
    near = [perplexity("flra", at, seed=k) for k, at in enumerate((88.0, 69.0, 77.0))]
    far = [perplexity("flra", at, seed=k) for k, at in enumerate((85.0, 64.0, 75.5))]
    assert verdict_of(folder, made + near)[1] == "not separated"
    assert verdict_of(folder, made + far)[1] == "holds"


def test_descriptions_and_baselines_have_no_better_direction(tmp_path: Path) -> None:
    names = ("dialogsum/rougeL", "dialogsum/copy_rougeL", "dialogsum/reply_tokens")
    made = [
        record(method, 0.2, measurements=[measurement(name, at, 0.2) for name in names])
        for method, at in (("svdllm", 9.0), ("flra", 10.0))
    ]
    layout = LAYOUT | {"columns": [{"name": names[0], "title": "ROUGE-L"}]}
    found = of_records(study_folder(tmp_path, layout), made, [])
    assert found is not None
    own, beside = (section.grid for section in page.page(found)[:2])
    assert own is not None
    assert beside is not None
    assert [row.cells[0].best for row in own.rows] == [False, True]
    arrows = {column.name: column.arrow for column in beside.columns}
    assert arrows == {**dict.fromkeys(names[1:], ""), "model/bytes_of_dense": ""}
    assert not any(cell.best for row in beside.rows for cell in row.cells)
