"""Plots of a study: they draw what the records hold, and nothing if there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import records_factory as factory
from matplotlib.figure import Figure

from flrc.results.plots import (
    importance_plot,
    methods,
    pareto_plot,
    ranks_plot,
    schedule_plot,
    search_plot,
    speed_plot,
)
from flrc.results.plots.axes import log_scale
from flrc.results.plots.style import save
from flrc.results.records.record import Record
from flrc.results.tables.runs_table import RunsTable

SHAPES = {"q_proj": (64, 64), "down_proj": (64, 192)}
BLOCKS = 3
ALL = (importance_plot, ranks_plot, schedule_plot, search_plot, speed_plot, pareto_plot)


def ranked(
    method: str = "flra",
    rate: float = 0.2,
    *,
    form: str = "two_factor",
    ranks: Callable[[int, str], int | None] = lambda block, _: 10 + block,
    score: Callable[[int, str], float | None] = lambda block, name: 1.5 + block + len(name),
    **changes: Any,
) -> Record:
    """A record whose layers have ranks and scores."""
    made = factory.record(
        method,
        rate,
        components={"form": form} | changes.pop("components", {}),
        config={"form": {"name": form}} | changes.pop("config", {}),
        **changes,
    )
    made.results["layers"] = [
        {
            "target": f"layers.{block}.{name}",
            "block": block,
            "projection": name,
            "shape": list(shape),
            "rank": ranks(block, name),
            "phase_ranks": [ranks(block, name)],
            "score": score(block, name),
            "relative_error": 0.1,
        }
        for block in range(BLOCKS)
        for name, shape in SHAPES.items()
    ]
    return made


def scheduled(rate: float = 0.2, first: float = 0.1, then: float = 0.3, step: int = 8) -> Record:
    """A run of two phases that generated 48 tokens a reply at most."""
    made = ranked(
        "flrc",
        rate,
        config={"evaluation": {"summarization": {"max_new_tokens": 48}}},
        measurements=[factory.measurement("dialogsum/rate", 0.2345, 0.2345)],
    )
    made.results["phases"] = [
        {"begin": 0.0, "requested": first, "realised": first},
        {"step": step, "requested": then, "realised": then},
    ]
    for layer in made.results["layers"]:
        layer["phase_ranks"] = [None, 7]
    return made


def timed(rate: float, dense: float = 4.0, **settings: Any) -> Record:
    """A run timed together with the dense model; the compressed one is 1 + rate times as fast."""
    values = {
        "tokens_per_second": dense * (1 + rate),
        "dense_tokens_per_second": dense,
        "speedup": 1 + rate,
        "speedup_lowest": 1 + rate / 2,
        "speedup_highest": 1 + 2 * rate,
    }
    return factory.record(
        "svdllm",
        rate,
        measurements=[
            factory.measurement(f"decode/{k}", v, rate, settings={"runtime": "eager"} | settings)
            for k, v in values.items()
        ],
    )


def test_files_are_pictures(tmp_path: Path) -> None:
    for module, records in (
        (importance_plot, [ranked()]),
        (ranks_plot, [ranked(), scheduled()]),
        (schedule_plot, [scheduled(), ranked(rate=0.2)]),
        (search_plot, [scheduled()]),
        (speed_plot, [timed(0.2)]),
        (pareto_plot, factory.sweep()),
    ):
        records[0].meta["schedule_search_seconds"] = {"all": 12.0}
        path = tmp_path / module.__name__
        (written,) = save(module.draw(records), path, ["png"])
        assert written == path.with_suffix(".png")
        assert written.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__.split(".")[-1])
def test_nothing_to_draw(module: Any) -> None:
    failed = factory.record("kfac", status="failed")
    for records in ([], [factory.record("dense", measurements=[])], [failed]):
        assert module.draw(records) == []


def test_scores_are_drawn_as_recorded() -> None:
    record = ranked()
    (figure,) = importance_plot.draw([record, ranked(rate=0.3)])
    (axes,) = figure.axes  # both rates have the same scores: one panel
    assert axes.get_yscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    for name in SHAPES:
        line = lines[name.replace("_proj", "")]
        layers = [layer for layer in record.results["layers"] if layer["projection"] == name]
        assert list(line.get_xdata()) == [layer["block"] for layer in layers]
        assert list(line.get_ydata()) == [layer["score"] for layer in layers]


def test_scores_without_a_logarithm_are_named() -> None:
    record = ranked(score=lambda block, name: -1.0 if (block, name) == (1, "q_proj") else 2.0)
    (figure,) = importance_plot.draw([record])
    axes = figure.axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 3]
    assert "not drawn: 1 " in axes.texts[0].get_text()


def test_a_score_of_the_block_is_one_line() -> None:
    assert list(importance_plot.curves(ranked(score=lambda block, _: block + 1.0))) == ["all"]
    assert importance_plot.curves(ranked(score=lambda *_: None)) == {}


@pytest.mark.parametrize("form", ["two_factor", "pivoted"])
def test_shares_of_a_heat_map(form: str) -> None:
    def ranks(block: int, name: str) -> int | None:
        return None if (block, name) == (2, "q_proj") else 5 * (block + 1)

    (figure,) = ranks_plot.draw([ranked(form=form, ranks=ranks)])
    image = figure.axes[0].images[0].get_array()
    for row, (m, n) in enumerate(SHAPES.values()):
        for block in range(BLOCKS):
            r = ranks(block, list(SHAPES)[row])
            cost = m * n if r is None else r * (m + n - (r if form == "pivoted" else 0))
            assert image[row][block] == pytest.approx(cost / (m * n))


def test_phases_stand_side_by_side() -> None:
    ((_, run),) = ranks_plot.panels([scheduled()])
    before, after = run
    assert "first steps" in before.title
    assert "step 8" in after.title
    assert before.shares == [[1.0] * BLOCKS, [1.0] * BLOCKS]
    assert after.shares[0][0] == pytest.approx(7 * 128 / 64**2)


def test_no_more_than_twelve_heat_maps() -> None:
    records = [ranked(rate=k / 100) for k in range(1, 15)]
    (figure,) = ranks_plot.draw(records)
    assert sum(bool(axes.images) for axes in figure.axes) == 12
    assert "2 more runs" in figure.get_supxlabel()


def test_methods_are_compared_at_the_middle_rate() -> None:
    records = [
        ranked(rate=k / 10, ranks=lambda block, name, k=k, s=s: k + s, form=form)
        for k in range(1, 8)
        for s, form in enumerate(("two_factor", "pivoted"))
    ]
    (figure,) = ranks_plot.draw(records)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    assert len(titles) == 2
    assert all(title.endswith(", 40 %") for title in titles)
    assert "12 more runs" in figure.get_supxlabel()


def test_rates_of_a_schedule() -> None:
    records = [scheduled(), ranked(rate=0.2), ranked(rate=0.4)]
    flrc, flra = schedule_plot.timelines(records)  # nothing at 0.4 changes its rate
    assert (flrc.name, flrc.requested, flrc.average) == ("FLRC", 0.2, 0.2345)
    assert flrc.rates == [0.1] * 8 + [0.3] * 40
    assert flra.constant
    assert set(flra.rates) == {0.2}
    (figure,) = schedule_plot.draw(records)
    stairs = figure.axes[0].patches[0].get_data()
    assert list(stairs.values) == flrc.rates
    assert list(stairs.edges) == list(range(49))
    assert f"{23.45:.1f} % on average" in figure.axes[0].patches[0].get_label()


def test_phases_by_share_of_the_reply() -> None:
    record = scheduled()
    record.results["phases"][1] = {"begin": 0.5, "requested": 0.3, "realised": 0.3}
    assert schedule_plot.timelines([record])[0].rates == [0.1] * 24 + [0.3] * 24


def test_seconds_of_a_search() -> None:
    def with_cost(method: str, search: float, stage: tuple[float, bool] | None) -> Record:
        made = factory.record(method, 0.2)
        made.results["search"] = {"seconds": search}
        if stage:
            seconds, cached = stage
            made.meta["stages"].append(
                {"name": "sensitivity", "seconds": seconds, "peak_bytes": 1, "cached": cached}
            )
        return made

    both = with_cost("flra", 30.0, (12.0, False))
    cached = with_cost("flrc", 0.0, (0.1, True))
    cached.meta["schedule_search_seconds"] = {"all": 100.0, "now": 1.0}
    free = with_cost("svdllm", 0.0, None)
    costs = {cost.name: cost for cost in search_plot.costs([free, both, cached])}
    assert list(costs) == ["FLRC", "FLRA", "SVD-LLM"]  # most expensive first
    assert costs["FLRA"].ranks == 42.0
    assert (costs["FLRC"].ranks, costs["FLRC"].schedule) == (None, 100.0)
    assert costs["SVD-LLM"].ranks == 0.0
    at_another_rate = factory.record("svdllm", 0.3)
    at_another_rate.results["search"] = {"seconds": 3.0}
    names = {cost.name for cost in search_plot.costs([free, at_another_rate])}
    assert names == {"SVD-LLM, 20 %", "SVD-LLM, 30 %"}
    assert search_plot.costs([free]) == []
    (figure,) = search_plot.draw([free, both, cached])
    axes = figure.axes[0]
    marks = {float(line.get_xdata()[0]): line for line in axes.lines if len(line.get_xdata()) == 1}
    assert sorted(marks) == [42.0, 100.0]
    assert marks[100.0].get_markerfacecolor() == "white"  # hollow: the search for the schedule
    assert marks[42.0].get_markerfacecolor() == methods.METHODS["flra"].colour
    assert axes.get_xscale() == "log"
    assert {"no search", "not timed: from the cache"} < {t.get_text().strip() for t in axes.texts}


def test_speed_bars() -> None:
    records = [timed(0.4), timed(0.2), timed(0.2, 8.0, runtime="compiled")]
    (figure,) = speed_plot.draw(records)
    eager, compiled = (axes for axes in figure.axes if axes.patches)
    assert [bar.get_height() for bar in eager.patches] == pytest.approx([4, 4.8, 4, 5.6])
    assert [bar.get_height() for bar in compiled.patches] == pytest.approx([8, 9.6])
    assert eager.texts[0].get_text() == "1.20x\n1.10 to 1.40"
    assert compiled.get_title() == "runtime compiled"


def test_speed_without_the_dense_model_is_not_drawn(tmp_path: Path) -> None:
    record = timed(0.2)
    record.results["measurements"] = record.results["measurements"][:1]
    assert speed_plot.draw([record]) == []


def test_pareto_axes_and_points() -> None:
    records = factory.sweep()
    (figure,) = pareto_plot.draw(records)
    columns = pareto_plot.quality(RunsTable(records))
    stored, realised = figure.axes[0], figure.axes[len(columns)]
    method = next(c for c in stored.containers if c.get_label() == "KFAC")
    assert list(method.lines[0].get_xdata()) == pytest.approx([70, 80, 90], abs=0.1)
    method = next(c for c in realised.containers if c.get_label() == "KFAC")
    assert list(method.lines[0].get_xdata()) == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)
    expected = [18.4 * 2.718 ** (2.0 * r * (1 + 4 * r)) for r in (0.1, 0.2, 0.3)]
    assert list(method.lines[0].get_ydata()) == pytest.approx(expected)
    (dense,) = (line for line in realised.lines if line.get_label() == "dense")
    assert list(dense.get_ydata()) == pytest.approx([18.4] * 2)
    assert all(math.isfinite(value) for value in method.lines[0].get_ydata())


def test_ticks_of_a_logarithmic_axis_are_whole_numbers() -> None:
    """A tick at a million must not turn those below it into 0.000, with 1e6 above the axis."""
    for limits, expected in (
        ((30.0, 1.2e6), {"100", "1,000", "1,000,000"}),
        ((0.02, 7.0), {"0.02", "0.5", "5"}),
        ((18.0, 2100.0), {"20", "50", "100", "2,000"}),
    ):
        place = Figure().subplots()
        log_scale(place, "y", *limits)
        formatter = place.yaxis.get_major_formatter()
        labels = formatter.format_ticks(place.yaxis.get_majorticklocs())
        assert formatter.get_offset() == ""
        assert expected <= set(labels), labels
        assert all(label.strip("0.,") in {"1", "2", "5"} for label in labels), labels


def test_what_is_stored_and_read_alike_has_one_row() -> None:
    records = [factory.record(m, rate) for m in ("svdllm", "kfac") for rate in (0.1, 0.2, 0.3)]
    (figure,) = pareto_plot.draw(records)
    assert len(figure.axes) == len(pareto_plot.quality(RunsTable(records)))
    assert "stored" in figure.axes[0].get_xlabel()
    records[0].results["parameters"]["targets_stored"] *= 1.1  # as under a schedule
    (other,) = pareto_plot.draw(records)
    assert len(other.axes) == 2 * len(figure.axes)


def test_one_cost_is_no_pareto_picture(tmp_path: Path) -> None:
    records = [factory.record(method, 0.2) for method in ("dense", "svdllm", "kfac")]
    assert pareto_plot.draw(records) == []


def test_a_metric_at_one_cost_has_no_panel() -> None:
    records = [factory.record("kfac", rate) for rate in (0.1, 0.2)]
    values = [factory.measurement("c4/perplexity", 9.0, 0.2)]
    records.append(factory.record("svdllm", 0.2, measurements=values))
    (figure,) = pareto_plot.draw(records)
    assert {axes.get_title() for axes in figure.axes} == {"WikiText-2 perplexity ↓"}


def test_settings_are_not_mixed_in_a_pareto_picture(tmp_path: Path) -> None:
    def measured(rate: float, windows: int) -> Record:
        settings = {"windows": windows}
        values = [factory.measurement("c4/perplexity", 9 + rate, rate, settings=settings)]
        return factory.record("kfac", rate, measurements=values)

    records = [measured(rate, windows) for windows in (4, 8) for rate in (0.1, 0.2)]
    drawn = pareto_plot.draw(records)
    assert len(drawn) == 2
    written = save(drawn, tmp_path / "plot", ["png"])
    assert [path.name for path in written] == ["plot.png", "plot-2.png"]
