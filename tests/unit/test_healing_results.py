"""What tables, pages and plots say of runs that were healed, from their records."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
import records_factory as factory
from healed_records import STEPS, course, healed
from rich.console import Console
from tiny import compose

from flrc.results.pages.model_card import Written, card_text
from flrc.results.pages.references import References
from flrc.results.pages.run_page import page_of_run
from flrc.results.plots import figures, healing_plot
from flrc.results.plots.methods import METHODS
from flrc.results.plots.names import Names
from flrc.results.records import show
from flrc.results.records.differences import differences
from flrc.results.records.healing import healing_of
from flrc.results.records.record import Record
from flrc.results.records.sharing import shareable
from flrc.results.tables.columns import HEALING, is_neutral
from flrc.results.tables.derived import derived
from flrc.results.tables.facts import facts_of, matches
from flrc.results.tables.footer import footer
from flrc.results.tables.labels import label_rows, presets
from flrc.results.tables.markdown import markdown_page
from flrc.results.tables.runs_table import RunsTable
from flrc.running import dry_run
from flrc.running.identity import HELD_OUT
from flrc.tracking.run_page import summary

FALLING = [0.8, 0.6, 0.5, 0.45, 0.4]
BLOCKS = [course([0.10, 0.06], block=0), course([0.30, 0.20], block=1), course([0.5, 0.7], block=2)]
"""The last one is best untuned."""
DIVERGED = course([0.8, 0.7, 1.3], stopped="diverged: held-out loss 1.3 after step 8")


def value(table: RunsTable, record: Record, name: str) -> float | None:
    (row,) = (key for key in table.keys if record.run["id"] in table.run_ids(key))
    found = table.value(row, name)
    return None if found is None else found.mean


def test_a_tuning_is_read_from_its_record() -> None:
    found = healing_of(healed(whole=course(FALLING), blocks=BLOCKS))
    assert found is not None
    assert found.whole is not None
    assert (found.whole.before, found.whole.after, found.whole.chosen) == (0.8, 0.4, STEPS)
    assert list(found.blocks) == [0, 1, 2]
    assert found.block_errors == pytest.approx((0.3, (0.06 + 0.2 + 0.5) / 3))
    assert found.block_steps == 3 * STEPS
    assert found.seconds == 3 * 20 + 50
    assert found.held_out == 4  # the larger number of the two parts
    assert [tuning.untuned for tuning in found.tunings] == [False, False, True, False]
    assert healing_of(factory.record("kfac")) is None


@pytest.mark.parametrize(
    ("whole", "blocks", "expected"),
    [
        (
            course(FALLING),
            None,
            "distilled: 8 steps end to end: held-out KL 0.8 -> 0.4 nats per token, step 8 kept; "
            "50 s; 36,864 calibration tokens, 4 sequences of them held out",
        ),
        (
            None,
            BLOCKS,
            "blockwise: 3 blocks, 24 steps: mean held-out error 30 % -> 25.3 %; 60 s; 36,864 "
            "calibration tokens, 4 sequences of them held out; 1 of 3 blocks stayed untuned: 2",
        ),
        (
            DIVERGED,
            None,
            "distilled: 8 steps end to end: held-out KL 0.8 -> 0.7 nats per token, step 4 kept; "
            "30 s; 36,864 calibration tokens, 4 sequences of them held out; diverged: held-out "
            "loss 1.3 after step 8; the state after step 4 was kept",
        ),
    ],
)
def test_one_line_in_records_pages_and_cards(whole: Any, blocks: Any, expected: str) -> None:
    record = healed(whole=whole, blocks=blocks)
    assert str(healing_of(record)) == expected
    out = io.StringIO()
    Console(file=out, width=400).print(show.whole(record))
    assert expected in out.getvalue()
    page = page_of_run("a", record, [], [], References())
    assert ("healing", expected) in page["facts"]
    assert f"- healing, {expected}" in card_text(shareable(record), Written("float32", 9))
    plain = factory.record("kfac")
    assert "healing" not in card_text(shareable(plain), Written("float32", 9))
    assert "healing" not in dict(page_of_run("a", plain, [], [], References())["facts"])


def test_columns_of_runs_that_were_healed() -> None:
    whole, both = (
        healed(whole=course(FALLING)),
        healed("flra_healed", whole=course(FALLING), blocks=BLOCKS),
    )
    plain = factory.record("svdllm", 0.3)
    table = RunsTable([plain, whole, both])
    shown = {name: value(table, both, name) for name in (column.name for column in HEALING)}
    assert shown == pytest.approx({
        "healing_block_steps": 24, "healing_block_error_before": 30.0,
        "healing_block_error": 76 / 3, "healing_steps": 8, "healing_kl_before": 0.8,
        "healing_kl": 0.4, "healing_seconds": 110,
    })  # fmt: skip
    assert value(table, whole, "healing_kl") == 0.4
    assert value(table, whole, "healing_block_error") is None
    assert value(table, plain, "healing_kl") is None
    page = markdown_page(table)
    assert "healing KL, before (nats)" in page
    assert re.search(r"\| +0\.800 \| +0\.400 \| +50\.0 \|", page)
    assert "Healing: KL is the divergence" in page
    assert "36,864 calibration tokens, 4 sequences of them held out." in page


def test_tables_without_healing_do_not_mention_it() -> None:
    table = RunsTable([factory.record("svdllm"), factory.record("dense")])
    assert not {column.name for column in table.columns} & {column.name for column in HEALING}
    assert "ealing" not in markdown_page(table)
    blocks = RunsTable([healed(blocks=BLOCKS)])
    assert "healing_kl" not in {column.name for column in blocks.columns}
    assert "nats" not in markdown_page(blocks)


@pytest.mark.parametrize(
    ("whole", "blocks", "warned"),
    [
        (course(FALLING), None, ""),
        (course([0.8]*2, block=None) | {"losses": [], "chosen": 0}, None, ""),  # no steps asked for
        (DIVERGED, None, "diverged: held-out loss 1.3 after step 8; the state after step 4 was"),
        (course([0.5, 0.6, 0.7]), None, "the untuned model was kept: no step lowered"),
        (None, [BLOCKS[0], course([0.1, math.nan], "diverged", 1)], "1 of 2 blocks diverged: 1"),
    ],
)  # fmt: skip
def test_what_did_not_go_well_is_said_under_the_table(whole: Any, blocks: Any, warned: str) -> None:
    table = RunsTable([healed(whole=whole, blocks=blocks), factory.record("kfac")])
    texts = [*table.reading, *footer(table, lambda _: True)]
    found = [text for text in texts if text.startswith("Healing of svdllm_healed at rate 0.3")]
    assert len(found) == (2 if warned else 0)  # in files, and in a terminal
    assert all(warned in text for text in found)


def test_studies_ask_for_what_healing_brought() -> None:
    found = {m.name: m for m in derived(healed(whole=course(FALLING), blocks=BLOCKS))}
    assert found["healing/kl"].value == 0.4
    assert found["healing/kl"].unit == "nats"
    assert found["healing/seconds"].unit == "s"
    assert found["healing/block_error"].value == pytest.approx(76 / 3)
    assert all(is_neutral(name) for name in found if name.startswith("healing/"))
    assert not any("healing" in m.name for m in derived(factory.record("kfac")))
    scalars = summary(healed(whole=course(FALLING)))
    assert scalars["healing/kl"] == 0.4
    assert not any("healing" in name for name in summary(factory.record("kfac")))


def test_a_sweep_that_is_reckoned_reads_the_held_out_sequences() -> None:
    """Also after a job that needs none: too short a text is found before any run begins."""
    reads = [
        dry_run._reads(
            compose("method=svdllm", "model=tiny", "data=sample", "calibration.samples=2",
                    "calibration.length=32", "evaluation=[perplexity]", f"heal={kind}")
        )
        for kind in ("none", "distilled")
    ]  # fmt: skip
    assert [HELD_OUT in read for read in reads] == [False, True]
    assert len(reads[1][HELD_OUT].ids) == 4


def test_healing_is_a_slot_of_labels() -> None:
    """A run that does not name the slot, as all that are older, is one without healing."""
    known = presets()
    preset = healed(whole=course(FALLING))
    override = healed("svdllm", whole=course(FALLING))
    taken_off = factory.record("svdllm", 0.3)
    taken_off.run["method"] = "svdllm_healed"
    plain = factory.record("svdllm", 0.3)
    labels = label_rows([plain, override, preset, taken_off], known)
    assert labels == [
        "svdllm", "svdllm · heal=distilled", "svdllm_healed", "svdllm_healed · heal=none",
    ]  # fmt: skip
    named = factory.record("svdllm", 0.3, components={"heal": "none"})
    named.run["id"] = plain.run["id"]
    assert label_rows([plain, named], known) == ["svdllm", "svdllm"]
    assert differences([plain, override]) == [["heal=none"], ["heal=distilled"]]


def test_facts_of_a_run_that_does_not_name_the_slot() -> None:
    plain = facts_of(factory.record("svdllm").run["config"])
    tuned = facts_of(healed(whole=course(FALLING)).run["config"])
    assert (plain["heal"], tuned["heal"]) == ("none", "distilled")
    for facts, kind in ((plain, "none"), (tuned, "distilled")):
        assert [matches(facts, {"heal": k}) for k in ("none", "distilled")] == [
            kind == "none",
            kind == "distilled",
        ]
    dense = facts_of(factory.record("dense").run["config"])
    assert matches(dense, {"heal": "distilled"})  # it stands for every value


def test_the_curve_is_drawn_as_recorded() -> None:
    record = healed(whole=course(FALLING))
    (figure,) = healing_plot.draw([record, factory.record("kfac")])
    over_steps, over_time = figure.axes
    training, held_out, ring = over_steps.lines
    assert list(training.get_xdata()) == list(range(STEPS))
    assert list(training.get_ydata()) == record.results["healing"]["distilled"]["losses"]
    assert list(held_out.get_xdata()) == [0, 2, 4, 6, 8]
    assert list(held_out.get_ydata()) == FALLING
    assert list(over_time.lines[0].get_xdata()) == [10, 20, 30, 40, 50]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in (ring, over_time.lines[1])] == [
        (8, 0.4),
        (50, 0.4),
    ]
    assert {line.get_color() for line in over_steps.lines} == {METHODS["svdllm_healed"].colour}
    low, high = over_steps.get_ylim()
    assert low < min(training.get_ydata())
    assert high > 0.8
    assert figure.get_suptitle() == "SmolLM2-135M, rate 30 %"


def test_runs_of_several_methods_and_rates() -> None:
    runs = [
        healed(m, rate, course(FALLING))
        for m in ("svdllm_healed", "flra_healed")
        for rate in (0.2, 0.3)
    ]
    (figure,) = healing_plot.draw(runs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{name} healed, {rate} %" for name in ("SVD-LLM", "FLRA") for rate in (20, 30)
    ]
    curves = healing_plot.curves(runs)
    assert [c.look.colour for c in curves] == [METHODS[r.run["method"]].colour for r in runs]
    assert len({(c.look.colour, c.look.line, c.look.face) for c in curves}) == 4
    called = Names({}, {run.run["id"]: "here" for run in runs[:1]})
    assert healing_plot.curves(runs[:1], called)[0].name == "here"


def test_a_tuning_that_diverged_has_a_cross_and_does_not_flatten_the_others() -> None:
    exploded = course([0.8, 0.7, 9e5], stopped="diverged: held-out loss 9e+05 after step 8")
    broken = course([0.8, 0.7, math.nan], stopped="diverged: held-out loss nan after step 8")
    for one in (exploded, broken):
        runs = [healed("svdllm", whole=one), healed("flra_healed", whole=course(FALLING))]
        (figure,) = healing_plot.draw(runs)
        over_steps = figure.axes[0]
        assert over_steps.get_ylim()[1] < 10
        (cross,) = (line for line in over_steps.lines if line.get_marker() == "x")
        assert cross.get_xdata()[0] == (8 if one is exploded else 4)
        assert cross.get_ydata()[0] <= over_steps.get_ylim()[1]
        assert "cross: diverged" in figure.legends[0].get_title().get_text()


def test_blocks_are_drawn_before_and_after() -> None:
    (figure,) = healing_plot.draw([healed(blocks=BLOCKS)])
    (axes,) = figure.axes
    before, after = axes.lines
    assert list(before.get_ydata()) == pytest.approx([10, 30, 50])
    assert list(after.get_ydata()) == pytest.approx([6, 20, 50])
    assert list(after.get_xdata()) == [0, 1, 2]
    assert len(healing_plot.draw([healed(whole=course(FALLING), blocks=BLOCKS)])) == 2


def test_nothing_is_drawn_where_nothing_was_healed() -> None:
    failed = factory.record("kfac", status="failed")
    lost = healed(whole=course([math.nan] * 2, "diverged") | {"losses": [], "chosen": 0})
    for records in ([], factory.sweep(), [failed], [lost]):
        assert healing_plot.draw(records) == []


def test_a_page_has_the_curve() -> None:
    runs = [healed(whole=course(FALLING))]
    shown = {figure.caption for figure in figures.figures([runs], {})}
    assert figures.PLOTS["healing"].caption in shown
    assert "healing" in figures.PLOTS_BY_NAME
