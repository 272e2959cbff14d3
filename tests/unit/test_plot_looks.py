"""Plots that could go into a paper: one look a method, error bars, axes that nothing flattens."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records_factory as factory
import yaml
from matplotlib.axes import Axes
from matplotlib.text import Text

from flrc.core.shipped import conf_folder
from flrc.results.plots import figures, pareto_plot, plot
from flrc.results.plots.axes import bar_limit, compact, heights, log_limit
from flrc.results.plots.methods import METHODS, look_of
from flrc.results.plots.names import Names
from flrc.results.plots.style import save
from flrc.results.records.record import Record
from flrc.results.studies.files import draw_plots, names_of
from flrc.results.studies.study import read_study
from flrc.results.tables.runs_table import RunsTable

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
OFTEN_TOGETHER = ("asvd", "svdllm", "svdllm_v2", "drank", "flra", "skipcat", "kfac", "kfac_skip")


def measured(method: str, rate: float, error: float | None = None, **values: float) -> Record:
    """A run with a perplexity on each data set, and its standard error."""
    record = factory.record(
        method if method in factory.PRESETS else "svdllm",
        rate,
        measurements=[
            factory.measurement(f"{name}/perplexity", value, rate, stderr=error)
            for name, value in values.items()
        ],
    )
    record.run |= {"method": method, "id": f"{method}-{rate}"}
    return record


def drawn(records: list[Record], names: Names | None = None) -> list[Axes]:
    """The panels of the plot of these runs."""
    (figure,) = plot.draw(RunsTable(records), names)
    return [axes for axes in figure.axes if axes.axison]


def texts(axes: Axes) -> list[str]:
    """What is written in and above a panel."""
    return [text.get_text() for text in axes.texts]


def line_of(axes: Axes, name: str) -> Any:
    """The line of a method, and its error bars."""
    return next(c for c in axes.containers if c.get_label() == name)


def test_every_preset_has_a_look_of_its_own() -> None:
    presets = {path.stem for path in (conf_folder() / "method").glob("*.yaml")}
    assert set(METHODS) == presets
    looks = [(look.colour, look.marker) for look in METHODS.values()]
    assert len(set(looks)) == len(looks)
    assert len({look.name for look in METHODS.values()}) == len(METHODS)


def test_printed_names_are_those_of_the_table_of_all_methods() -> None:
    table = yaml.safe_load((EXPERIMENTS / "ours" / "table.yaml").read_text("utf-8"))
    printed = dict(table["labels"]["method"])
    assert printed.pop("dense") == "Baseline"  # in plots it is a line, called dense
    assert printed == {m: look.name for m, look in METHODS.items() if m != "dense"}


def test_a_healed_method_is_darker_than_the_one_it_starts_from() -> None:
    healed = [method for method in METHODS if method.endswith("_healed")]
    assert len(healed) == 5
    for method in healed:
        start = METHODS[method.removesuffix("_healed")]
        assert METHODS[method].name == f"{start.name} healed"  # a comma separates names
        assert METHODS[method].marker != start.marker
        before, after = (_lab(_linear(look.colour)) for look in (start, METHODS[method]))
        assert after[0] < before[0] - 10
        for other in (*OFTEN_TOGETHER, *healed):
            if other != method:
                assert np.linalg.norm(_lab(_linear(METHODS[other].colour)) - after) > 12, other


def test_a_method_that_is_not_ours_always_looks_the_same() -> None:
    taken = {(look.colour, look.marker) for look in METHODS.values()}
    look = look_of("by_width")
    assert look == look_of("by_width")
    assert look.name == "by_width"
    assert (look.colour, look.marker) == ("#661100", "<")  # by its name, not by its place
    for name in ("mine", "other", "by_width"):
        assert (look_of(name).colour, look_of(name).marker) not in taken


def test_colours_do_not_depend_on_the_other_methods() -> None:
    few = [measured(m, r, c4=9 + r) for m in ("kfac", "svdllm") for r in (0.1, 0.2)]
    more = [*few, *(measured(m, 0.1, c4=9) for m in ("asvd", "drank", "atp"))]
    for records in (few, more):
        (axes,) = drawn(records)
        for method in ("kfac", "svdllm"):
            line = line_of(axes, METHODS[method].name).lines[0]
            assert line.get_color() == METHODS[method].colour
            assert line.get_marker() == METHODS[method].marker


def test_runs_of_one_method_share_its_colour_only() -> None:
    rows = {"flrc · score=weight": "a", "flrc": "b", "flrc · score=gradient": "c", "kfac": "d"}
    looks = Names().looks(rows)
    assert list(looks) == list(rows)
    assert [look.name for look in looks.values()][:2] == ["FLRC · score=weight", "FLRC"]
    own = [looks[label] for label in rows if label.startswith("flrc")]
    assert {look.colour for look in own} == {METHODS["flrc"].colour}
    assert looks["flrc"].variant == 0
    assert len({(look.line, look.marker, look.face, look.hatch) for look in own}) == 3


def test_names_and_order_are_those_of_the_table_beside() -> None:
    names = Names({}, {"z": "SVD-LLM", "y": "FLRC", "x": "KFAC-Skip + PLRD (ours)"})
    looks = names.looks({"flra": "y", "flrc_kfac_skip": "x", "svdllm": "z", "kfac": "none"})
    assert [look.name for look in looks.values()] == [
        "SVD-LLM", "FLRC", "KFAC-Skip + PLRD (ours)", "KFAC",
    ]  # fmt: skip
    # What a table calls FLRC looks as FLRC does in every plot.
    assert looks["flra"].colour == METHODS["flrc"].colour
    assert looks["flrc_kfac_skip"].colour == METHODS["flrc_kfac_skip"].colour


def test_rows_with_one_name_keep_what_distinguishes_them() -> None:
    names = Names({}, {"a": "FLRC", "b": "FLRC"})
    looks = names.looks({"flrc": "a", "flrc · seed=1": "b"})
    assert [look.name for look in looks.values()] == ["FLRC", "FLRC · seed=1"]


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ("table02", ["ASVD", "SVD-LLM", "FLRC", "KFAC-Skip (ours)"]),
        ("table03", ["Eq. 4", "Eq. 5", "Eq. 1"]),
        ("long_generation", ["FLRA", "FLRC", "KFAC", "FLRC-KFAC"]),
        (
            "table04",
            ["Static rank decoding", "Increased rank decoding", "Decreased rank decoding"],
        ),
    ],
)
def test_a_study_is_drawn_in_the_words_of_its_table(study: str, expected: list[str]) -> None:
    found = read_study(EXPERIMENTS / study)
    assert found is not None
    (figure,) = plot.draw(RunsTable(found.records), names_of(found, {}))
    texts_of = figure.legends[0].get_texts() if figure.legends else figure.axes[0].get_yticklabels()
    assert [text.get_text() for text in texts_of] == expected
    assert figure.get_suptitle().startswith("SmolLM2-135M")


def test_error_bars_are_the_tables() -> None:
    single = [measured("kfac", rate, error=2.0, c4=30.0) for rate in (0.1, 0.2)]
    (axes,) = drawn(single)
    (_, _, (bars,)) = line_of(axes, "KFAC")
    assert [list(segment[:, 1]) for segment in bars.get_segments()] == [[28.0, 32.0]] * 2
    seeds = [
        factory.record(
            "kfac", rate, seed, measurements=[factory.measurement("c4/perplexity", v, rate)]
        )
        for rate in (0.1, 0.2)
        for seed, v in ((0, 29.0), (1, 31.0))
    ]
    for record in seeds:
        record.run["id"] += f"-{record.run['seed']}"
    (axes,) = drawn(seeds)
    (_, _, (bars,)) = line_of(axes, "KFAC")
    assert np.ptp(bars.get_segments()[0][:, 1]) == pytest.approx(2 * math.sqrt(2))


def test_a_page_is_drawn_in_the_words_of_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    kind = figures.Plot(lambda _, names: called.append(names) or [], "", "")
    monkeypatch.setattr(figures, "PLOTS", {"speed": kind})
    words = Names({}, {"a": "Eq. 1"})
    assert figures.figures([[]], {}, words) == figures.figures([[]], {"svd": {}}) == []
    assert called == [words, Names({"svd": {}})]


def test_bars_of_a_metric_that_is_zero_or_less() -> None:
    records = [
        factory.record(m, 0.2, measurements=[factory.measurement("x/rougeL", value, 0.2)])
        for m, value in (("kfac", 0.0), ("svdllm", -3.0))
    ]
    (axes,) = drawn(records)
    low, high = axes.get_xlim()
    assert low == -3
    assert high > 0


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ((None, None), ""),
        ((1.0, None), "error bars: standard error over items"),
    ],
)
def test_what_error_bars_show_is_said(errors: tuple[float | None, ...], expected: str) -> None:
    rates = (0.1, 0.2)
    records = [measured("kfac", r, e, c4=30.0) for r, e in zip(rates, errors, strict=True)]
    (figure,) = plot.draw(RunsTable(records))
    assert figure.legends[0].get_title().get_text() == expected


@pytest.mark.parametrize("rates", [(0.1, 0.2), (0.2,)], ids=["lines", "bars"])
def test_the_dense_model_is_a_line_with_its_name(rates: tuple[float, ...]) -> None:
    records = [measured("dense", 0.0, c4=18.4), *(measured("kfac", r, c4=30.0) for r in rates)]
    (axes,) = drawn(records)
    assert "dense 18.40" in texts(axes)
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    ends = dashed[0].get_ydata() if len(rates) > 1 else dashed[0].get_xdata()
    assert set(ends) == {18.4}
    assert "dense" not in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize("rates", [(0.1, 0.2), (0.2,)], ids=["lines", "bars"])
def test_a_copy_of_the_source_is_a_line_with_its_name(rates: tuple[float, ...]) -> None:
    records = [
        factory.record(
            "kfac",
            rate,
            measurements=[
                factory.measurement("x/rougeL", 14.5 - rate, rate),
                factory.measurement("x/copy_rougeL", 22.84, rate),
            ],
        )
        for rate in rates
    ]
    (axes,) = drawn(records)
    assert "copy of the source 22.84" in texts(axes)
    (dotted,) = (line for line in axes.lines if line.get_linestyle() == ":")
    ends, limits = (
        (dotted.get_ydata(), axes.get_ylim()) if len(rates) > 1 else
        (dotted.get_xdata(), axes.get_xlim())
    )  # fmt: skip
    assert set(ends) == {22.84}
    assert limits[0] < 22.84 < limits[1]


def test_a_collapsed_model_does_not_flatten_the_lines() -> None:
    values = {"svdllm": (60.0, 90.0, 150.0), "kfac": (25.0, 30.0, 40.0), "svd": (4e3, 8e5, 3.8e8)}
    records = [
        measured(m, rate, c4=v)
        for m, row in values.items()
        for rate, v in zip((0.1, 0.2, 0.3), row, strict=True)
    ]
    (axes,) = drawn([*records, measured("dense", 0.0, c4=18.0)])
    low, high = axes.get_ylim()
    assert high < 1e4  # 4000 is 222 times the dense model's, and on the axis
    assert {"800k", "380M"} <= set(texts(axes))
    assert not {"4k", "4000"} & set(texts(axes))
    arrows = [
        line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()) == 1
    ]
    assert [float(line.get_xdata()[0]) for line in arrows] == pytest.approx([0.2, 0.3], abs=1e-3)
    assert {line.get_color() for line in arrows} == {METHODS["svd"].colour}
    share = math.log(40 / 25) / math.log(high / low)
    assert share > 0.05  # what is left to tell KFAC's points apart


def test_a_collapsed_model_does_not_flatten_the_bars() -> None:
    values = {"svd": 3.8e8, "svdllm": 93.0, "flra": 52.0, "kfac": 30.0}
    (axes,) = drawn([measured(m, 0.2, c4=v) for m, v in values.items()])
    assert axes.get_xscale() == "linear"  # bars begin at zero
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] < 200
    assert "380M" in texts(axes)
    widths = dict(zip(values, (bar.get_width() for bar in axes.patches), strict=True))
    assert widths["svdllm"] == 93.0
    assert widths["svd"] < 100


def test_values_that_are_not_finite_are_named() -> None:
    records = [measured("kfac", r, c4=v) for r, v in ((0.1, math.nan), (0.2, math.inf))]
    (axes,) = drawn(records)
    assert texts(axes) == ["not drawn: KFAC at 10 %: NaN; KFAC at 20 %: inf"]
    assert axes.get_title() == "C4 perplexity ↓"
    (axes,) = drawn([*records, measured("svdllm", 0.1, c4=9.0)])
    assert any(text.startswith("not drawn: KFAC") for text in texts(axes))
    (axes,) = drawn([measured("kfac", 0.2, c4=math.inf), measured("svdllm", 0.2, c4=9.0)])
    assert {"inf", "9.00"} <= {text.strip() for text in texts(axes)}


def test_where_an_axis_ends() -> None:
    assert log_limit([20.0, 50.0, 5000.0]) == 5000.0  # within reach, though far from the others
    assert log_limit([20.0, 5000.0, 8000.0, 13000.0]) == 13000.0  # beyond it, but no outlier
    assert log_limit([20.0, 5000.0, 9000.0, 6e5]) == 9000.0
    assert bar_limit([24.0, 36.0, 41.0, 775.0]) == 41.0
    assert bar_limit([24.0, 60.0, 80.0, 775.0]) == 80.0
    assert bar_limit([41.0, 80.0, 167.0, 775.0]) == 775.0
    assert bar_limit([5.0]) == log_limit([5.0]) == 5.0


def test_numbers_above_each_other() -> None:
    assert heights([0.1, 0.1, 0.3, 0.11], 0.05) == [0, 1, 0, 2]
    assert [compact(v) for v in (775.2, 7788.0, 3.76e8, math.inf)] == [
        "775",
        "7.79k",
        "376M",
        "inf",
    ]


def test_ticks_stand_at_the_rates_that_were_run() -> None:
    (axes,) = drawn([measured("kfac", rate, c4=9 + rate) for rate in (0.2, 0.3)])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["20", "30"]
    assert axes.get_xlabel() == "rate (%)"


def test_a_model_has_panels_of_what_was_measured_on_it() -> None:
    here = [measured("kfac", rate, c4=9 + rate) for rate in (0.2, 0.3)]
    there = [measured("kfac", rate, wikitext2=8 + rate) for rate in (0.2, 0.3)]
    for record in there:
        record.run["config"]["model"] = {"name": "gguf", "label": "other", "path": "x"}
        record.run["id"] += "-other"
    titles = [axes.get_title() for axes in drawn([*here, *there])]
    assert sorted(titles) == ["SmolLM2-135M\nC4 perplexity ↓", "other\nWikiText-2 perplexity ↓"]


def test_an_error_bar_does_not_stretch_a_metric_below_zero() -> None:
    records = [
        factory.record(
            "kfac",
            rate,
            measurements=[factory.measurement("x/rougeL", v, rate, stderr=6.0)],
        )
        for rate, v in ((0.1, 4.0), (0.2, 15.0))
    ]
    (axes,) = drawn(records)
    assert -2 < axes.get_ylim()[0] <= 0
    assert axes.get_ylim()[1] >= 21


def test_text_can_be_read_in_a_paper_with_two_columns() -> None:
    for figure in (
        *pareto_plot.draw(factory.sweep()),
        *plot.draw(RunsTable([measured("kfac", 0.2, 1.0, c4=9, wikitext2=8)])),
    ):
        panels = [axes for axes in figure.axes if axes.axison]
        columns = len({round(axes.get_subplotspec().colspan.start) for axes in panels})
        assert figure.get_figwidth() <= 2.6 * max(columns, 1.4) + 0.5
        sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
        assert min(sizes) >= 8


@pytest.mark.parametrize(
    ("ending", "begin"), [("png", b"\x89PNG"), ("pdf", b"%PDF-"), ("svg", b"<?xml")]
)
def test_equal_plots_are_equal_files(tmp_path: Path, ending: str, begin: bytes) -> None:
    contents = []
    for name in ("one", "two"):
        figures = pareto_plot.draw([measured("kfac", r, 1.0, c4=9 + r) for r in (0.1, 0.2)])
        (file,) = save(figures, tmp_path / name, [ending])
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(begin)
    for word in (b"Date", b"date>", b"Matplotlib v"):
        assert word not in contents[0]
    if ending == "pdf":
        assert b"/Type3" not in contents[0]  # which some conferences refuse


def test_a_study_writes_each_format_once(tmp_path: Path) -> None:
    study = read_study(EXPERIMENTS / "table06")
    assert study is not None
    assert [f.name for f in draw_plots(study, tmp_path)] == ["quality.png", "quality.pdf"]
    assert [f.name for f in draw_plots(study, tmp_path, ["svg"])] == ["quality.svg"]


def test_colours_differ_with_a_colour_vision_deficiency() -> None:
    """Euclidean distance in CIELAB; 10 is where two areas are told apart at a glance."""
    # Source: Machado, Oliveira and Fernandes 2009, severity 1.
    seen = {
        "normal": np.eye(3),
        "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                                [-0.003882, -0.048116, 1.051998]]),
        "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                                  [-0.011820, 0.042940, 0.968881]]),
    }  # fmt: skip
    for sight in seen.values():
        places = {m: _lab(sight @ _linear(METHODS[m].colour)) for m in OFTEN_TOGETHER}
        for one, other in itertools.combinations(OFTEN_TOGETHER, 2):
            assert np.linalg.norm(places[one] - places[other]) > 15, (one, other)


def _linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def _lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_variants_are_in_the_order_of_the_table() -> None:
    """Whatever their settings are called, the row that stands first is the solid one."""
    names = Names(
        {}, {"b": "FLRC", "a": "FLRC, stored ≤ dense", "d": "PLRD", "c": "PLRD, stored ≤ dense"}
    )
    rows = {
        "flrc · search.stored=1": "a", "flrc · search.stored=null": "b",
        "plrd · rounds=1": "d", "plrd · a=1": "c",
    }  # fmt: skip
    looks = list(names.looks(rows).values())
    assert [look.name for look in looks] == list(names.runs.values())
    assert [look.variant for look in looks] == [0, 1, 0, 1]


def test_an_empty_label_adds_nothing_to_a_name() -> None:
    """Table 5 prints nothing for the search that most of its rows have."""
    study = read_study(EXPERIMENTS / "table05")
    called = names_of(study, {}).runs.values()
    assert called
    assert not [name for name in called if name.rstrip(" ").endswith(",") or ", ," in name]
