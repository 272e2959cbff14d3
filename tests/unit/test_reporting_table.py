"""Records to a table: aggregation, labels, columns, and what a table rejects."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import records_factory as factory

from flrc.errors import UserError
from flrc.results.records.distinct_models import distinct_models
from flrc.results.tables.columns import MixedSettings, settings_groups
from flrc.results.tables.grid import number
from flrc.results.tables.labels import label_rows, read_presets
from flrc.results.tables.runs_table import RunsTable
from flrc.results.tables.value import MixedRates

NAME = "wikitext2/perplexity"
MODEL = "smollm2_135m"


def one(method: str, value: float, rate: float = 0.2, seed: int = 0, **options: object):
    at = 0.0 if method == "dense" else rate
    measured = [factory.measurement(NAME, value, at)]
    return factory.record(method, rate, seed, measurements=measured, **options)


def marks(records: list) -> dict[str, tuple[str, bool]]:
    """Text and best mark of the perplexity cell by method."""
    grid = RunsTable(records).text_grid
    k = next(k for k, column in enumerate(grid.columns) if column.name == NAME)
    method = grid.label_titles.index("method")
    return {row.labels[method]: (row.cells[k].text, row.cells[k].best) for row in grid.rows}


def test_mean_and_deviation_over_seeds() -> None:
    values = [11.0, 12.5, 17.0]
    table = RunsTable([one("svdllm", value, seed=seed) for seed, value in enumerate(values)])
    cell = table.value((MODEL, 0.2, "svdllm"), NAME)
    assert cell.mean == pytest.approx(13.5)
    # deviations -2.5, -1, 3.5: squares 6.25 + 1 + 12.25 = 19.5, over 2
    assert cell.deviation == pytest.approx(math.sqrt(9.75))
    assert cell.deviation == pytest.approx(np.std(values, ddof=1))
    assert cell.count == 3
    assert table.text_grid.rows[0].labels == ["svdllm", "3", "0.2"]
    assert marks([one("svdllm", v, seed=s) for s, v in enumerate(values)])["svdllm"][0] == (
        "13.50 ± 3.12"
    )


def test_order_dense_first_then_rates() -> None:
    table = RunsTable(
        [one("kfac", 9, 0.3), one("svdllm", 8, 0.1), one("dense", 5), one("kfac", 7, 0.1)]
    )
    assert table.keys == [
        (MODEL, 0.0, "dense"),
        (MODEL, 0.1, "kfac"),
        (MODEL, 0.1, "svdllm"),
        (MODEL, 0.3, "kfac"),
    ]


def test_best_is_per_rate_without_dense_and_never_nan() -> None:
    found = marks([one("dense", 1), one("svdllm", math.nan), one("kfac", 9), one("flra", 10)])
    assert found == {
        "dense": ("1.00", False),
        "svdllm": ("NaN", False),
        "kfac": ("9.00", True),
        "flra": ("10.00", False),
    }
    zero = marks([one("dense", 1), one("svdllm", 3, 0.0), one("kfac", 2, 0.0)])
    assert [zero[m][1] for m in ("dense", "svdllm", "kfac")] == [False, False, True]
    infinite = marks([one("svdllm", math.inf), one("kfac", math.nan)])
    assert infinite == {"svdllm": ("inf", False), "kfac": ("NaN", False)}


def test_ties_in_what_is_shown_share_the_mark() -> None:
    assert marks([one("svdllm", 9.001), one("kfac", 9.002), one("flra", 9.1)]) == {
        "svdllm": ("9.00", True),
        "kfac": ("9.00", True),
        "flra": ("9.10", False),
    }


def test_no_mark_where_all_are_equal_or_nothing_is_better() -> None:
    assert marks([one("svdllm", 9), one("kfac", 9)])["kfac"] == ("9.00", False)
    runs = [
        factory.record(m, 0.2, measurements=[factory.measurement("x/copy_rougeL", v, 0.2)])
        for m, v in (("svdllm", 1), ("kfac", 2))
    ]
    table = RunsTable(runs)
    assert table.columns[1].arrow == ""
    assert not any(cell.best for row in table.text_grid.rows for cell in row.cells)


def test_nan_in_one_seed_makes_the_mean_nan() -> None:
    table = RunsTable([one("svdllm", 3.0, seed=0), one("svdllm", math.nan, seed=1)])
    cell = table.value((MODEL, 0.2, "svdllm"), NAME)
    assert math.isnan(cell.mean)
    assert cell.count == 2
    assert marks([one("svdllm", 3.0), one("svdllm", math.nan, seed=1)])["svdllm"][0] == "NaN ± NaN"


def test_missing_is_a_dash_with_a_footnote_that_names_the_run() -> None:
    lacking = factory.record("kfac", 0.2, measurements=[])
    grid = RunsTable([one("svdllm", 8), lacking]).text_grid
    cell = grid.rows[1].cells[1]
    assert (cell.text, cell.note) == ("\N{EN DASH}", 1)
    assert grid.footnotes == [f"{NAME} is not measured for kfac at rate 0.2 ({lacking.run['id']})."]


def test_parameters_and_seconds() -> None:
    table = RunsTable([one("svdllm", 8, 0.25)])
    row = {column.name: table.value(table.rows[0], column.name).mean for column in table.columns}
    assert row["stored"] == pytest.approx(75.0)
    assert row["model_bytes"] == 4 * row["model_stored"]
    assert row["model_stored"] == 79_626_240 + 28_346_688  # 3/4 of the targets, and the embeddings
    assert row["compress_seconds"] == pytest.approx(42.5)  # statistics 30, decomposition 12.5
    assert row["evaluate_seconds"] == pytest.approx(7.0)


def test_a_deviation_is_in_the_unit_of_its_mean() -> None:
    """A spread of 10 and of 10,000,000 beside millions of parameters."""
    texts = []
    for spread in (10, 10_000_000):
        records = [factory.record("svdllm", seed=seed) for seed in (0, 1)]
        records[1].results["parameters"]["model_stored"] += spread
        grid = RunsTable(records).text_grid
        place = [column.name for column in grid.columns].index("model_stored")
        texts.append(grid.rows[0].cells[place].text)
    assert texts == ["113.3M", "118.3M ± 7.1"]


def test_time_of_seeds_that_used_the_cache_is_left_out() -> None:
    table = RunsTable([one("svdllm", 8, seed=0), one("svdllm", 8, seed=1)])
    cell = table.value((MODEL, 0.2, "svdllm"), "compress_seconds")
    assert (cell.mean, cell.count) == (42.5, 1)


def test_different_settings_are_refused_by_key_and_run() -> None:
    other = factory.record(
        "kfac",
        0.2,
        measurements=[factory.measurement(NAME, 5, 0.2, settings={"windows": 4, "length": 2048})],
    )
    first = one("svdllm", 8)
    with pytest.raises(MixedSettings) as caught:
        RunsTable([first, other])
    assert caught.value.keys == ["data", "windows"]
    assert caught.value.runs == [first.run["id"], other.run["id"]]
    assert "windows" in str(caught.value)
    assert settings_groups([first, other, one("flra", 9)]) == [[first, one("flra", 9)], [other]]


def test_a_run_that_mixes_settings_is_alone() -> None:
    """Its own numbers are not comparable; the others still are, and where no setting is null."""
    mixed = factory.record(
        "kfac",
        measurements=[
            factory.measurement(NAME, 5, 0.2, settings={"windows": windows}) for windows in (4, 8)
        ],
    )
    plain, null = (
        factory.record("svdllm", rate, measurements=[factory.measurement(NAME, 5, 0.2, settings=s)])
        for rate, s in ((0.2, {"windows": 4}), (0.3, {"windows": 4, "data": None}))
    )
    assert settings_groups([mixed, plain, null]) == [[mixed], [plain, null]]
    assert settings_groups([plain, mixed, null]) == [[plain, null], [mixed]]
    with pytest.raises(MixedSettings):
        RunsTable([mixed])


def test_tokenizer_settings_may_differ_between_models_only() -> None:
    def tokenized(method: str, model: str, tokenizer: str):
        m = factory.measurement(NAME, 5, 0.2, settings={"windows": 4, "tokenizer": tokenizer})
        return factory.record(method, 0.2, model=model, measurements=[m])

    assert RunsTable([tokenized("svdllm", "a", "x"), tokenized("svdllm", "b", "y")]).models == [
        "a",
        "b",
    ]
    with pytest.raises(MixedSettings, match="tokenizer"):
        RunsTable([tokenized("svdllm", "a", "x"), tokenized("kfac", "a", "y")])


def test_a_cell_that_mixes_rates_is_found_when_the_table_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in a row after the first with a value: nothing is printed or written before."""
    measured = [factory.measurement(NAME, 9.0, 0.3)]
    first, other = one("svdllm", 8.0), factory.record("svdllm", 0.2, 1, measurements=measured)
    monkeypatch.setattr("sys.argv", ["flrc"])
    with pytest.raises(MixedRates, match="different rates") as raised:
        RunsTable([one("dense", 7.0), first, other])
    pair = f"{first.run['id']} {other.run['id']}"
    assert raised.value.fix == f"flrc records diff {pair} shows more than the seed"


def test_generation_rate_has_its_own_column_even_if_not_measured() -> None:
    def generated(method: str, spent: float, seed: int = 0):
        measured = [factory.measurement("dialogsum/rougeL", 15, spent)]
        return factory.record(method, 0.2, seed, measurements=measured)

    table = RunsTable([generated("flrc", 0.23), generated("svdllm", 0.2)])
    assert table.value((MODEL, 0.2, "flrc"), "dialogsum/rate").mean == 0.23
    assert table.value((MODEL, 0.2, "svdllm"), "dialogsum/rate").mean == 0.2
    assert table.value((MODEL, 0.2, "flrc"), "realised").mean == 0.2
    with pytest.raises(MixedRates, match="different rates"):
        RunsTable([generated("flrc", 0.2), generated("flrc", 0.3, seed=1)])


def test_failed_runs_are_listed_not_tabled() -> None:
    table = RunsTable([one("svdllm", 8), factory.record("kfac", 0.4, status="failed")])
    assert len(table.keys) == 1
    (line,) = table.notes.failed
    assert "kfac at rate 0.4" in line
    assert "failed in decomposition: UserError: no room_left 100%" in line
    with pytest.raises(UserError, match="no run has finished"):
        RunsTable([factory.record("kfac", 0.4, status="failed")])


def test_labels_name_overridden_components() -> None:
    weight = one("flra", 8, components={"sensitivity": "weight"})
    presets = {"flra": {"sensitivity": "fisher", "allocator": "proportional"}}
    assert label_rows([one("flra", 7), weight], presets) == ["flra", "flra · sensitivity=weight"]
    dense = one("dense", 5, components={"allocator": "proportional"}, config={"calibration": {}})
    assert label_rows([dense, one("dense", 5)], {"dense": {"allocator": "uniform"}})[1] == (
        f"dense · id={one('dense', 5).run['id']}"  # same configuration in everything that matters
    )
    assert label_rows([dense], {"dense": {"allocator": "uniform"}}) == ["dense"]
    assert label_rows([weight], presets) == ["flra · sensitivity=weight"]
    assert label_rows([one("flra", 7), weight], {}) == [
        "flra · sensitivity=fisher",
        "flra · sensitivity=weight",
    ]


def test_where_and_how_a_run_ran_is_not_in_the_label() -> None:
    """What ids leave out; records written before such a key existed lack it."""
    runs = [
        factory.record("flra", seed=0),
        factory.record(
            "flra",
            seed=1,
            config={"workers": 0, "placement": "device", "scale": "small", "data": {"root": "a"}},
        ),
        factory.record(
            "flra",
            seed=2,
            config={"workers": 4, "placement": "host", "scale": "none", "data": {"root": "b"}},
        ),
    ]
    assert label_rows(runs, {}) == ["flra"] * 3


def test_labels_name_other_settings_and_never_average_them() -> None:
    few = one("flra", 7, config={"calibration": {"name": "text", "samples": 4, "length": 512}})
    assert label_rows([few, one("flra", 8)], {}) == [
        "flra · calibration.samples=4",
        "flra · calibration.samples=16",
    ]
    device = one("flra", 7, seed=1, config={"device": "cuda"})
    assert label_rows([device, one("flra", 8)], {}) == ["flra", "flra"]
    again = one("flra", 8)
    again.run["id"] = "ffffffffff"  # the same configuration under other code or data
    assert label_rows([again, one("flra", 8)], {})[0] == "flra · id=ffffffffff"


def test_presets_are_read_with_defaults(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "config.yaml").write_text(
        "defaults:\n  - form: two_factor\n  - allocator: uniform\n  - evaluation: [perplexity]\n"
    )
    (tmp_path / "method" / "flra.yaml").write_text(
        "defaults:\n  - override /allocator: proportional\n  - _self_\n"
    )
    assert read_presets(tmp_path) == {"flra": {"form": "two_factor", "allocator": "proportional"}}
    assert read_presets(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.345, "perplexity", "12.35"),
        (1234.5, "perplexity", "1234"),
        (123456.0, "perplexity", "1.23e+05"),
        (0.19997, "rate", "0.2000"),
        (1.1e8, "bytes", "110.0M"),
        (math.nan, "rate", "NaN"),
        (-math.inf, "%", "-inf"),
        (0.001, "%", "1.00e-03"),
        (0.0, "%", "0.00"),
    ],
)
def test_numbers(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_sample_data_is_not_a_benchmark() -> None:
    assert any("not benchmark numbers" in line for line in RunsTable(factory.sweep()).notes.general)
    assert not any("benchmark" in line for line in RunsTable([one("svdllm", 8)]).notes.general)


def test_a_search_that_a_constant_schedule_does_not_read_is_not_in_the_label() -> None:
    presets = {"svdllm": {"schedule": "constant", "search": "none"}}
    constant = factory.record("svdllm", components={"search": "halving"})
    other = factory.record("svdllm", components={"search": "halving", "schedule": "progressive"})
    assert label_rows([constant], presets) == ["svdllm"]
    assert label_rows([other], presets) == ["svdllm · schedule=progressive · search=halving"]


def of_models(*revisions: str) -> list:
    """A dense run and two methods on each model, all under one label; the second is the better."""
    found = []
    for worse, revision in enumerate(revisions):
        for method, value in (("dense", 5.0), ("svdllm", 9.0), ("kfac", 8.0)):
            made = one(method, value - worse, config={"place": revision})
            made.meta["model_revision"] = revision
            found.append(made)
    return found


def test_two_models_of_one_label_are_two() -> None:
    table = RunsTable(of_models("aaaaaaaaaa", "bbbbbbbbbb"))
    assert table.models == [f"{MODEL} (aaaaaaaa)", f"{MODEL} (bbbbbbbb)"]
    assert len(table.keys) == 6
    assert {label for _, _, label in table.keys} == {"dense", "svdllm", "kfac"}
    # Each model has its own best: the worse model's is not hidden behind the other.
    grid = table.text_grid
    k = next(k for k, column in enumerate(grid.columns) if column.name == NAME)
    best = [row.labels[0] for row in grid.rows if row.cells[k].best]
    assert best == table.models
    same = RunsTable(of_models("aaaaaaaaaa"))
    assert same.models == [MODEL]


def test_seeds_of_two_models_share_no_cell() -> None:
    first, second = one("kfac", 8.0, seed=0), one("kfac", 4.0, seed=1)
    second.meta["model_revision"] = "other"
    table = RunsTable([first, second])
    values = [table.value(row, NAME) for row in table.rows]
    assert sorted(value.mean for value in values) == [4.0, 8.0]
    assert {value.count for value in values} == {1}


def test_a_calibration_is_named_by_its_option() -> None:
    made = [
        one("kfac", 8.0, config={"calibration": {"name": "text", "datasets": [of], "samples": 4}})
        for of in ("c4", "wikitext2")
    ]
    labels = [label for _, _, label in RunsTable(made).keys]
    assert sorted(labels) == ["kfac · calibration=c4", "kfac · calibration=wikitext2"]


def test_equal_weights_under_two_labels_are_two_rows() -> None:
    made = [one("kfac", 8.0, model="alpha"), one("kfac", 9.0, model="beta")]
    for record in made:  # one computation: one id
        record.run["id"] = "aaaa111111"
    table = RunsTable(made)
    assert table.models == ["alpha", "beta"]
    assert [table.value(row, NAME).mean for row in table.rows] == [8.0, 9.0]
    assert len(RunsTable([*made, made[0]]).rows) == 2  # the same run, given twice


def test_models_are_distinguished_once() -> None:
    once = distinct_models(of_models("aaaaaaaaaa", "bbbbbbbbbb"))
    assert [record.run for record in distinct_models(once)] == [record.run for record in once]
    # A part of them, as a table of one kind of settings shows it, calls them the same.
    assert RunsTable(once[:3]).models == [f"{MODEL} (aaaaaaaa)"]
