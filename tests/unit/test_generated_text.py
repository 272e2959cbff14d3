"""Tables of generated text: agreement, a copy of the source, what the schedule costs and chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from records_factory import measurement, record
from study_factory import job, study_folder

from flrc.results.records.record import Record
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import study_of
from flrc.results.tables.facts import facts_of
from flrc.results.tables.grid import MISSING, Grid
from flrc.results.tables.section import Section

LAYOUT: dict[str, Any] = {
    "caption": "Summaries",
    "place": "Table 99",
    "rows": ["rate", "method", "search"],
    "columns": [
        {"name": "dialogsum/rougeL", "title": "DialogSum ROUGE-L"},
        {"name": "dialogsum/bertscore_f1", "title": "DialogSum BERTScore"},
    ],
    "labels": {
        "search": {"halving": "", "halving, stored <= 1": "stored ≤ dense"},
        "method": {"dense": "Baseline", "svdllm": "SVD-LLM", "flrc": "FLRC"},
    },
}
ONE, TWO = [{"begin": 0.0}], [{"begin": 0.0}, {"step": 8}]


def summaries(method: str, score: float, stored: float | None = None, phases: Any = ONE) -> Record:
    """A run that generated, its schedule searched if it has one."""
    rate = 0.0 if method == "dense" else 0.2
    values = {"rougeL": score, "bertscore_f1": 50.0, "dense_agreement": 7.0, "copy_rougeL": 22.5}
    measured = [
        measurement(f"dialogsum/{name}", value, rate, stderr=0.5) for name, value in values.items()
    ]
    config = {"search": {"name": "halving", "stored": stored}}
    made = record(method, rate, measurements=measured, config=config)
    made.results["phases"] = phases
    made.results["bytes"] = {"model_dense": 100, "model_stored": 131}
    if method == "flrc":
        made.results["schedule_search"] = {"candidates": [{"drop": 0.0}]}
    return made


def page(tmp_path: Path, *records: Record, layout: dict[str, Any] = LAYOUT) -> list[Section]:
    jobs = [job(made, tuple(m.name for m in made.measurements)) for made in records]
    study = study_of(study_folder(tmp_path, layout), list(records), jobs)
    assert study is not None
    return sections_of(study)


def rows(grid: Grid | None) -> list[list[str]]:
    assert grid is not None
    return [[*row.labels, *(cell.text for cell in row.cells)] for row in grid.rows]


@pytest.fixture
def sections(tmp_path: Path) -> list[Section]:
    return page(
        tmp_path,
        summaries("dense", 17.0),
        summaries("svdllm", 9.0),
        summaries("flrc", 14.0, phases=TWO),
        summaries("flrc", 9.0, stored=1.0),
    )


def test_the_first_table_has_what_a_score_is_judged_by(sections: list[Section]) -> None:
    grid = sections[0].grid
    assert grid is not None
    titles = [column.title for column in grid.columns]
    assert titles[:3] == ["DialogSum ROUGE-L ↑", "DialogSum BERTScore ↑", "DialogSum agreement ↑"]
    assert titles[-2:] == ["stored / dense", "bytes / dense"]
    dense, copied, *others = rows(grid)
    assert dense[1] == "Baseline"
    assert copied[:4] == ["", "Copy of the source", "", "22.50 ± 0.50"]
    assert set(copied[4:]) == {MISSING}
    assert [row[1:4] for row in others] == [
        ["SVD-LLM", "", "9.00 ± 0.50"],
        ["FLRC", "", "14.00 ± 0.50"],
        ["FLRC", "stored ≤ dense", "9.00 ± 0.50"],
    ]
    assert all(row[-1] == "1.31" for row in [dense, *others])
    beside = [c.name for section in sections[1:] if section.grid for c in section.grid.columns]
    assert not [name for name in beside if "copy" in name or "agreement" in name]


def test_a_search_that_chose_no_change_of_ranks_says_so(sections: list[Section]) -> None:
    grid = sections[0].grid
    assert grid is not None
    noted = [row.labels for row in grid.rows if row.cells[0].note]
    assert noted == [["20 %", "FLRC", "stored ≤ dense"]]
    assert "chose the constant schedule" in grid.footnotes[0]
    assert "seeds" not in grid.footnotes[0]


def test_searches_that_chose_differently_are_counted(tmp_path: Path) -> None:
    seeds = [summaries("flrc", 9.0, phases=phases) for phases in (TWO, ONE, ONE)]
    for seed, made in enumerate(seeds):
        made.run |= {"seed": seed, "id": f"{seed:010d}"}
    missing = summaries("flrc", 9.0)
    missing.run |= {"seed": 3, "id": "3" * 10}
    jobs = [job(made, tuple(m.name for m in made.measurements)) for made in [*seeds, missing]]
    study = study_of(study_folder(tmp_path, LAYOUT), seeds, jobs)
    assert study is not None
    grid = sections_of(study)[0].grid
    assert grid is not None
    (footnote,) = (text for text in grid.footnotes if "constant" in text)
    assert "(2 of 3 seeds); not measured yet: python run.py method=flrc" in footnote


def test_what_decoding_buys_is_said_where_ranks_change(
    sections: list[Section], tmp_path: Path
) -> None:
    assert any("buys no storage" in line for line in sections[0].notes)
    constant = page(tmp_path / "constant", summaries("dense", 17.0), summaries("svdllm", 9.0))
    assert any("Agreement" in line for line in constant[0].notes)
    assert not any("buys no storage" in line for line in constant[0].notes)


def test_each_group_of_columns_has_its_own_copy(tmp_path: Path) -> None:
    other = summaries("svdllm", 8.0)
    other.run["config"]["model"]["label"] = "other"
    for m in other.results["measurements"]:
        if m["name"].endswith("copy_rougeL"):
            m["value"] = 11.25
    other.run["id"] = "ffffffffff"
    labels = {**LAYOUT["labels"], "model": {"smollm2_135m": "One", "other": "Two"}}
    layout = {**LAYOUT, "rows": ["rate", "method"], "group": "model", "labels": labels}
    (first, *_) = page(tmp_path, summaries("svdllm", 9.0), other, layout=layout)
    (copied,) = [row for row in rows(first.grid) if "Copy of the source" in row]
    assert [text for text in copied if "±" in text] == ["22.50 ± 0.50", "11.25 ± 0.50"]

    # A model that was not measured has none.
    mine = summaries("svdllm", 9.0)
    jobs = [job(mine, tuple(m.name for m in mine.measurements)), job(other, ())]
    study = study_of(study_folder(tmp_path / "one", layout), [mine], jobs)
    assert study is not None
    (copied,) = [row for row in rows(sections_of(study)[0].grid) if "Copy of the source" in row]
    assert [text for text in copied if "±" in text] == ["22.50 ± 0.50"]


def test_the_limit_of_storage_is_a_fact_only_where_it_is_read() -> None:
    def fact(method: str, stored: float | None) -> str:
        config = {"search": {"name": "halving", "stored": stored}}
        return str(facts_of(record(method, config=config).run["config"])["search"])

    assert fact("flrc", None) == fact("svdllm", 1.0) == fact("svdllm", None) == "halving"
    assert fact("flrc", 1.0) == "halving, stored <= 1"
