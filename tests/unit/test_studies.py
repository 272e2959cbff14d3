"""Studies: facts, cells, the page, the files, and records that travel between folders."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from records_factory import measurement, record
from rich.console import Console
from study_factory import EXPECTED, LAYOUT, job, perplexity, study_folder

from flrc.core import jsonfile
from flrc.errors import UserError
from flrc.results.records.checkpoint_places import PLACES
from flrc.results.records.run_key import key_of
from flrc.results.records.store import RunFolder, find_folders
from flrc.results.studies import collect, files, manifest
from flrc.results.studies.expected import read_expected
from flrc.results.studies.manifest import Job, manifest_folder
from flrc.results.studies.runs import MixedVersions, runs_of
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import read_study_of_runs, study_of
from flrc.results.tables.derived import allocation_seconds, derived
from flrc.results.tables.facts import facts_of, matches
from flrc.results.tables.grid import MISSING, Grid
from flrc.results.tables.layout import Layout, read_layout
from flrc.results.tables.value import MixedModels, value_of


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
    found = value_of(
        runs_of(seeds, layout), {"method": "svdllm", "rate": 0.2}, "wikitext2/perplexity"
    )
    assert found is not None
    assert (found.mean, found.count) == (13.0, 3)
    assert found.deviation == pytest.approx((13.0) ** 0.5)  # (9 + 1 + 16) / 2
    assert found.error == pytest.approx((13.0 / 3) ** 0.5)
    twice = [perplexity("svdllm", 10.0), perplexity("svdllm", 11.0, config={"extra": {"k": 1}})]
    with pytest.raises(UserError, match="two runs with the same seed"):
        value_of(runs_of(twice, layout), {"method": "svdllm"}, "wikitext2/perplexity")


def test_a_table_never_mixes_versions_settings_or_rates() -> None:
    layout = Layout("", "", ["method"], {"wikitext2/perplexity": "x"})
    old = perplexity("flra", 9.0)
    old.meta["versions"] = {"torch": "2.12.0", "transformers": "5.23.0"}
    with pytest.raises(MixedVersions, match=r"torch.*\n.*2\.13\.0"):
        runs_of([perplexity("svdllm", 10.0), old], layout)
    far = record("svdllm", 0.2, 1, measurements=[measurement("wikitext2/perplexity", 9.0, 0.3)])
    with pytest.raises(UserError, match="different rates"):
        value_of(runs_of([perplexity("svdllm", 10.0), far], layout), {}, "wikitext2/perplexity")


def test_a_table_never_mixes_models() -> None:
    """Neither two under one label, nor two labels in one cell."""
    layout = Layout("", "", ["method"], {"wikitext2/perplexity": "x"})
    mine, other = perplexity("svdllm", 10.0), perplexity("dense", 5.0)
    other.meta["model_revision"] = "another"
    with pytest.raises(MixedModels, match=r"both called smollm2_135m(?s:.*)model\.label=NAME"):
        runs_of([mine, other], layout)
    second = record(
        "svdllm", 0.2, 1, model="b", measurements=[measurement("wikitext2/perplexity", 9.0, 0.2)]
    )
    second.meta["model_revision"] = "another"
    runs = runs_of([mine, second], layout)
    with pytest.raises(MixedModels, match="mix models"):
        value_of(runs, {}, "wikitext2/perplexity")
    assert value_of(runs, {"model": "b"}, "wikitext2/perplexity") is not None


def test_the_page_has_ours_the_papers_and_the_verdicts(tmp_path: Path) -> None:
    records = [perplexity("dense", 20.0), perplexity("svdllm", 90.0), perplexity("flra", 50.0)]
    found = study_of(study_folder(tmp_path), records, [job(r) for r in records])
    assert found is not None
    ours, papers, claims = sections_of(found)
    assert text(ours.grid) == [
        ["-", "Baseline", "20.00", "1.00", "1.00"],
        ["20 %", "SVD-LLM", "90.00", "0.80", "0.84"],
        ["20 %", "FLRC", "50.00", "0.80", "0.84"],
    ]
    assert ours.grid is not None
    assert [row.cells[0].best for row in ours.grid.rows] == [False, False, True]
    assert ours.grid.rows[2].cells[0].runs == [key_of(records[2])]
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
    """Perplexity on the constant plan must not hide the rate that the schedule realised."""
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
    found = study_of(study_folder(tmp_path, layout), runs, [job(run, names) for run in runs])
    assert found is not None
    grid = sections_of(found)[0].grid
    assert grid is not None
    assert [head.metric for head in grid.columns][2] == "rate spent"
    assert [row.cells[2].text for row in grid.rows] == ["30.0 %", "31.1 %"]


def test_a_missing_cell_says_what_fills_it(tmp_path: Path) -> None:
    there, absent = perplexity("svdllm", 90.0), perplexity("flra", 50.0)
    found = study_of(study_folder(tmp_path), [there], [job(there), job(absent, ())])
    assert found is not None
    ours = sections_of(found)[0].grid
    assert ours is not None
    assert text(ours)[1] == ["20 %", "FLRC", MISSING, MISSING, MISSING]
    assert ours.rows[1].cells[0].note == 1
    assert ours.footnotes == ["not measured yet: python run.py method=flra"]
    for file in files.write_study(found, tmp_path / "out", {}, ["markdown", "latex"]):
        assert "[1] not measured yet: python run.py method=flra" in file.read_text("utf-8")


def test_a_cell_that_lacks_a_seed_says_so(tmp_path: Path) -> None:
    one, two = perplexity("svdllm", 90.0), perplexity("svdllm", 92.0, seed=1)
    found = study_of(study_folder(tmp_path), [one], [job(one), job(two, ())])
    assert found is not None
    grid = sections_of(found)[0].grid
    assert grid is not None
    assert text(grid) == [["20 %", "SVD-LLM", "90.00", "0.80", "0.84"]]
    assert grid.rows[0].cells[0].note == 1
    assert grid.footnotes == ["not measured yet: python run.py method=svdllm"]


def test_the_rate_stands_beside_a_number_that_was_not_taken_at_the_asked_one(
    tmp_path: Path,
) -> None:
    spent = record("flrc", 0.2, measurements=[measurement("wikitext2/perplexity", 30.0, 0.213)])
    found = study_of(study_folder(tmp_path), [spent], [])
    assert found is not None
    grid = sections_of(found)[0].grid
    assert grid is not None
    titles = ["Wiki2 perplexity", "rate spent", "stored / dense", "bytes / dense"]
    assert [c.metric for c in grid.columns] == titles
    assert text(grid) == [["20 %", "FLRC", "30.00", "21.3 %", "0.80", "0.84"]]


def test_ours_minus_the_papers_where_the_model_is_the_same(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    expected = json.loads(json.dumps(EXPECTED))
    for row in expected["rows"]:
        row["where"]["model"] = "smollm2_135m"
    (folder / "expected.yaml").write_text(yaml.safe_dump(expected), "utf-8")
    found = study_of(folder, [perplexity("svdllm", 90.0)], [])
    assert found is not None
    (difference,) = (s for s in sections_of(found) if "minus" in s.title)
    assert text(difference.grid) == [["20 %", "SVD-LLM", "76.00"]]


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
    found = study_of(study_folder(tmp_path), records, [job(r) for r in records])
    assert found is not None
    run_id = str(records[1].run["id"])
    places = {key_of(records[1]): "results/x/record.json"}
    written = files.write_study(found, tmp_path / "out", places, ["markdown", "latex", "csv"])
    assert [path.name for path in written] == ["table.md", "table.tex", "table.csv"]
    markdown, latex, table = (path.read_text("utf-8") for path in written)
    assert f"[{run_id}](results/x/record.json)" in markdown
    assert "0123456789" in markdown  # the commit
    assert "python run.py method=svdllm" in markdown
    assert re.search(r"\| 20 % \| SVD-LLM +\| +90\.12 \| +0\.80 \| +0\.84 \|", markdown)
    assert r"\begin{tabular}{rlrrr}" in latex
    assert r"\cmidrule" not in latex  # no groups of columns
    rows = list(csv.DictReader(io.StringIO(table)))
    ours = {r["method"]: r["value"] for r in rows
            if r["source"] == "here" and r["measurement"] == "wikitext2/perplexity"}  # fmt: skip
    assert ours == {"dense": "20.0", "svdllm": "90.125", "flrc": "50.5"}
    assert sum(r["source"] == "paper" for r in rows) == 3
    out = io.StringIO()
    files.print_study(found, Console(file=out, width=100))
    below = out.getvalue().partition("50.50*")[2]
    assert (
        "\n*: best of its column at its rate, dense excluded.\n" in below.partition("The paper")[0]
    )


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
    manifest.write(manifest.manifest_folder(runs, "table99", "small"), [the_job])
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


def test_collecting_what_was_not_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program, run in (("flrc", "flrc"), ("flrc/studies.py", "python run.py")):
        monkeypatch.setattr(sys, "argv", [program])
        with pytest.raises(UserError, match="was not run here") as raised:
            collect.collect(tmp_path, "table99", "small", tmp_path / "results")
        assert raised.value.fix is not None
        assert raised.value.fix.endswith(f"{run} experiment=table99 scale=small")


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
    found = study_of(study_folder(tmp_path), [shared], both)
    assert found is not None
    assert text(sections_of(found)[0].grid) == [
        ["20 %", "SVD-LLM", "50.00", "0.80", "0.84"],
        ["20 %", "FLRC", "50.00", "0.80", "0.84"],
    ]


def test_equal_weights_under_two_labels_are_two_runs_of_a_study(tmp_path: Path) -> None:
    made = [perplexity("svdllm", at, model=label) for label, at in (("one", 50.0), ("two", 60.0))]
    for of in made:
        of.run["id"] = "aaaa111111"
        of.meta[PLACES] = [{"folder": "/home/me/out", "digest": "0"}]  # of this machine
    jobs = [
        replace(job(of), folder=f"{label}/whitened-aaaa111111")
        for of, label in zip(made, ("one", "two"), strict=True)
    ]
    runs, results = tmp_path / "runs", tmp_path / "results"
    for of, asked in zip(made, jobs, strict=True):
        RunFolder(runs / asked.folder).write_record(of)
    manifest.write(manifest_folder(runs, "table99", "small"), jobs)
    folder = study_folder(tmp_path, LAYOUT | {"rows": ["model", "method"]})
    found = read_study_of_runs(runs, "table99", "small", folder.parent)
    assert found is not None
    assert [row[2] for row in text(sections_of(found)[0].grid)] == ["50.00", "60.00"]
    assert len(found.records) == 2
    # Both are kept, in whatever order, and come back to where they were.
    both = ["one-whitened-aaaa111111", "two-whitened-aaaa111111"]
    for order in (jobs, jobs[::-1]):
        manifest.write(manifest_folder(runs, "table99", "small"), order)
        kept = collect.collect(runs, "table99", "small", results)
        assert sorted(folder.name for folder in kept) == both
    collect.restore(results, tmp_path / "again")
    for of, asked in zip(made, jobs, strict=True):
        back = RunFolder(tmp_path / "again" / asked.folder).read_record()
        assert back is not None
        assert back.measurements == of.measurements
        assert PLACES not in back.meta


def test_a_second_label_renames_what_only_the_results_hold(tmp_path: Path) -> None:
    made = [perplexity("svdllm", at, model=label) for label, at in (("one", 50.0), ("two", 60.0))]
    for of in made:
        of.run["id"] = "aaaa111111"
    jobs = [
        replace(job(of), folder=f"{label}/whitened-aaaa111111")
        for of, label in zip(made, ("one", "two"), strict=True)
    ]
    results = tmp_path / "results"

    def collected(number: int, *asked: Job) -> dict[str, float]:
        """After a study on another machine, where only the last of these jobs ran."""
        runs = tmp_path / str(number)
        RunFolder(runs / asked[-1].folder).write_record(made[jobs.index(asked[-1])])
        manifest.write(manifest_folder(runs, "table99", "small"), asked)
        collect.collect(runs, "table99", "small", results)
        return {f.path.name: of.measurements[0].value for f, of in find_folders(results)}

    one, two = jobs
    assert collected(1, one) == {"whitened-aaaa111111": 50.0}
    both = {"one-whitened-aaaa111111": 50.0, "two-whitened-aaaa111111": 60.0}
    assert collected(2, one, two) == both
    assert collected(3, two) == {"whitened-aaaa111111": 60.0}
    assert collected(4, two, one) == both


def test_descriptions_and_baselines_have_no_better_direction(tmp_path: Path) -> None:
    names = ("dialogsum/rougeL", "dialogsum/reply_tokens", "dialogsum/rate")
    made = [
        record(method, 0.2, measurements=[measurement(name, at, 0.2) for name in names])
        for method, at in (("svdllm", 9.0), ("flra", 10.0))
    ]
    layout = LAYOUT | {"columns": [{"name": names[0], "title": "ROUGE-L"}]}
    found = study_of(study_folder(tmp_path, layout), made, [])
    assert found is not None
    own, beside = (section.grid for section in sections_of(found)[:2])
    assert own is not None
    assert beside is not None
    assert [row.cells[0].best for row in own.rows] == [False, True]
    arrows = {column.name: column.arrow for column in beside.columns}
    assert arrows == {"dialogsum/reply_tokens": ""}
    assert not any(cell.best for row in beside.rows for cell in row.cells)


def test_a_study_reads_the_settings_that_its_jobs_asked_for(tmp_path: Path) -> None:
    """A later command measured the run at others, which are then the latest of its record."""
    made = perplexity("svdllm", 90.0)
    (mine,) = made.measurements
    wider = {**vars(mine), "value": 70.0, "settings": {**mine.settings, "windows": 1}}
    made.results |= {"measurements": [wider], "other_settings": [vars(mine)]}
    asked = replace(job(made), keys=[mine.key])
    folder = study_folder(tmp_path)
    RunFolder(tmp_path / "runs" / asked.folder).write_record(made)
    manifest.write(manifest.manifest_folder(tmp_path / "runs", folder.name, "small"), [asked])
    found = read_study_of_runs(tmp_path / "runs", folder.name, "small", folder.parent)
    assert found is not None
    assert text(sections_of(found)[0].grid)[0][2] == "90.00"
    (kept,) = collect.collect(tmp_path / "runs", folder.name, "small", tmp_path / "kept")
    record = RunFolder(kept).read_record()
    assert record is not None
    assert [m.value for m in record.measurements] == [90.0]
