"""What is shown: one line on a terminal; a line a stage, and heartbeats, elsewhere."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import compose

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import StageCache
from flrc.core.progress import Display, display, duration, progress
from flrc.decomposition.statistics import Statistics
from flrc.decomposition.svd import Svd
from flrc.decomposition.whitened import Whitened
from flrc.models.anatomy.targets import find_targets
from flrc.pipeline import run
from flrc.running.factors import factorise
from flrc.running.profiling import Stages
from flrc.running.steps import Step, steps


@pytest.fixture(autouse=True)
def nothing_shown() -> None:
    """Loops that failed in other tests may not be closed: pytest keeps their frames."""
    with display.shown("starting"):
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_in_a_file_while_it_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    assert list(progress(range(3), "counting", 3)) == [0, 1, 2]
    assert not out.getvalue()


def test_a_file_gets_a_line_for_each_stage_and_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setattr("flrc.core.progress.HEARTBEAT", 0.2)
    display = Display(job="job 3 of 8")
    monkeypatch.setattr("flrc.core.progress.display", display)
    with display.shown("starting"):
        display.stage("[1/2] loading the model")
        time.sleep(0.5)  # one long step without a loop
        display.stage("[2/2] calibrating")
        for _ in progress(range(4), "calibrating on 32 sequences", unit="block"):
            for _ in progress(range(2), "gradients", unit="sequence"):
                time.sleep(0.1)
    time.sleep(0.3)
    lines = out.getvalue().splitlines()
    assert lines[0] == "job 3 of 8: [1/2] loading the model"
    assert lines[1].startswith("job 3 of 8: [1/2] loading the model")
    assert "job 3 of 8: [2/2] calibrating" in lines
    shown = [line for line in lines if "32 sequences: block 3 of 4" in line]
    assert shown, lines
    assert re.search(r"block 3 of 4, gradients sequence [12] of 2, [01] s left$", shown[0])
    assert "\r" not in out.getvalue()
    assert len(lines) < 12, "a heartbeat, not a line for each item"


def test_nothing_is_shown_while_another_process_shows_its_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setattr("flrc.core.progress.HEARTBEAT", 0.05)
    display = Display()
    with display.shown("starting"), display.paused():
        time.sleep(0.2)
    assert not out.getvalue()


def test_other_output_begins_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(out)])
    for _ in progress(range(2), "counting"):
        logging.getLogger("flrc").warning("a message")
        break
    before, _, _ = out.getvalue().partition("a message")
    assert before.startswith("\rcounting: 1 of 2")
    assert before.endswith("\r\x1b[K")


def test_also_if_logging_is_set_up_anew_while_something_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    root = logging.getLogger()
    with display.shown("starting"):
        monkeypatch.setattr(root, "handlers", [logging.StreamHandler(out)])
        display.stage("[1/2] loading the model")
        root.warning("a message")
    assert out.getvalue().partition("a message")[0].endswith("\r\x1b[K")


def test_processes_that_share_a_terminal_print_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    display = Display(job="job 2", lines=True)
    with display.shown():
        display.stage("[1/9] loading the model")
    assert out.getvalue() == "job 2: [1/9] loading the model\n"


@pytest.mark.parametrize(("seconds", "shown"), [(12.4, "12 s"), (240, "4 min"), (9000, "2.5 h")])
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_steps_are_those_that_the_configuration_asks_for() -> None:
    dense = compose("method=dense", "evaluation=[perplexity]")
    assert [step.stages[0] for step in steps(dense, False)][:2] == ["preflight", "load"]
    assert all("decomposition" not in step.stages for step in steps(dense, False))
    searched = compose("method=flrc", "evaluation=[summarization]", "model.save=true")
    names = [name for step in steps(searched, True) for name in step.stages]
    assert {"dense replies", "sensitivity", "schedule", "save"} <= set(names)
    assert "refinement" not in names
    refined = compose("method=kfac_skip", "evaluation=[perplexity]")
    names = [name for step in steps(refined, False) for name in step.stages]
    assert "refinement" in names
    assert not {"dense replies", "save"} & set(names)
    assert ["allocation", "schedule"] in [list(step.stages) for step in steps(refined, False)]


def test_healing_takes_turns_with_replacing_the_layers() -> None:
    """They are one step: a block may be replaced and healed before the next is replaced."""
    for kind, title in (
        ("none", "replacing the layers"),
        ("both", "replacing and healing the layers"),
    ):
        config = compose("method=svdllm", f"heal={kind}", "evaluation=[perplexity]")
        (step,) = (step for step in steps(config, False) if "surgery" in step.stages)
        assert (step.title, step.stages) == (title, ("surgery", "healing", "quantization"))
        names = [name for step in steps(config, False) for name in step.stages]
        assert len(names) == len(set(names))


def test_a_step_is_announced_once_though_its_stages_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    taking_turns = Step("decomposing", ("decomposition", "statistics"))
    stages = Stages(steps=[Step("loading", ("load",)), taking_turns])
    with display.shown():
        for name in ("load", "decomposition", "statistics", "decomposition"):
            with stages(name):
                pass
    assert out.getvalue().splitlines() == ["[1/2] loading", "[2/2] decomposing"]


def test_a_terminal_shows_memory_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    held = []
    for number in progress(range(4), "calibrating", 4, "block"):
        held.append(b"x" * 50_000_000 * (number == 1))
        time.sleep(0.25)
    text = out.getvalue()
    assert "calibrating: block 3 of 4" in text
    assert "1 s left" in text
    shown = [float(part.split(" GB")[0]) for part in text.split(", ")[1:] if " GB" in part]
    assert shown
    assert shown == sorted(shown)
    assert 0.05 < shown[-1] < 50


def test_a_loop_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before is counted, but does not make the rest look quick."""
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setattr("flrc.core.progress.BETWEEN_ITEMS", 0.0)
    for _ in progress(range(97, 100), "healing", unit="step", done=97):
        time.sleep(0.6)
    assert "healing: step 98 of 100" in out.getvalue()
    assert "step 99 of 100, 1 s left" in out.getvalue()


def test_a_bar_within_another_takes_its_line_and_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    for _ in progress(range(2), "outer", 2):
        assert list(progress(range(2), "inner", 2)) == [0, 1]
        last = [part for part in out.getvalue().split("\r") if part.strip()][-1]
        assert last.startswith("outer"), out.getvalue()
    assert "\n" not in out.getvalue(), "one line"


@pytest.mark.parametrize("whitened", [True, False])
def test_blocks_are_shown_whatever_the_cache_holds(
    whitened: bool,
    make_model: Callable[..., Any],
    sequences: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model()
    dense, cache = DenseModel(model, find_targets(model), sequences), StageCache(tmp_path, 1 << 40)
    shown = []
    for decomposition in [Whitened(), Whitened(cutoff=1e-12)] if whitened else [Svd()]:
        out = Terminal()
        monkeypatch.setattr("sys.stderr", out)
        kept = cache.entry("statistics", {}) if whitened else None
        statistics = Statistics(decomposition, dense, kept)
        factorise(statistics, cache.entry("factors", decomposition.describe()), Stages())
        shown.append(out.getvalue().split("\r")[1].partition(":")[0])
    first, *later = shown
    calibrating = f"calibrating on {len(sequences)} sequences and decomposing"
    assert (first == calibrating) is whitened
    assert all(doing == "decomposing" for doing in [*later] or [first])


@pytest.mark.parametrize("method", ["dense", "flrc", "kfac_skip", "svdllm_healed"])
def test_every_stage_of_a_run_belongs_to_a_step(method: str, tmp_path: Path) -> None:
    """On sample data, whose parts are named by their labels."""
    config = compose(
        f"method={method}", "model=tiny", "data=sample", "device=cpu", "calibration.samples=2",
        "calibration.length=32", "calibration.dialogues=0", "search=none",
        "evaluation=[perplexity]", "evaluation.perplexity.length=64",
        "evaluation.perplexity.windows=1", f"paths.runs={tmp_path}", f"paths.cache={tmp_path}/c",
    )  # fmt: skip
    known = {name for step in steps(config, False) for name in step.stages}
    done = {stage["name"] for stage in run(config).meta["stages"]}
    assert {"preflight", "load"} <= done <= known


def test_a_loop_that_failed_is_not_shown_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its generator is not closed as long as the exception holds its frame."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    loops = [progress(range(3), "counting")]
    with display.shown("starting"):
        next(loops[0])
    assert display.text() == ""
    with display.shown("starting"):
        assert display.text() == "starting"
        loops[0].close()
        assert display.text() == "starting"
