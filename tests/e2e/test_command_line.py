"""Hydra reads the command line: its whole grammar, its flags, and where records go."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from running import ROOT, Ended, load_script

from flrc.sweeps import command_line

QUICK = (
    "data=sample",
    "device=cpu",
    "threads=1",
    "evaluation=[perplexity]",
    "evaluation.perplexity.datasets=[wikitext2]",
    "evaluation.perplexity.windows=1",
    "evaluation.perplexity.length=64",
)
TABLES = {"table.md", "table.csv", "table.tex"}
Line = Callable[..., Ended]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the commands share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def line(
    tmp_path: Path,
    cache: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    logging_as_before: None,
) -> Line:
    """``python run.py`` in an empty folder, in this process, with overrides as given."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    script = load_script(ROOT / "run.py")

    def run(
        *words: str, method: str = "method=svd", model: str = "model=tiny", at: Path = tmp_path
    ) -> Ended:
        GlobalHydra.instance().clear()
        monkeypatch.chdir(at)
        told = [*words, *QUICK, f"paths.cache={cache}", *filter(None, [method, model])]
        monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py"), *told])
        capfd.readouterr()
        code = command_line.sweep(script.main, script.CONF, told)
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Hydra configures logging for the process."""
    logger = logging.getLogger()
    handlers, level, threads = list(logger.handlers), logger.level, torch.get_num_threads()
    yield
    GlobalHydra.instance().clear()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    torch.set_num_threads(threads)


def left(folder: Path) -> set[str]:
    """The contents of a folder."""
    return {path.name for path in folder.iterdir()}


def jobs(runs: Path) -> list[str]:
    """The runs in a folder, by the prefix of their names."""
    found = sorted(path.parent.name for path in runs.glob("*/*/record.json"))
    return [name.rpartition("-")[0] for name in found]


def assert_kept_in(runs: Path, *names: str) -> None:
    """Records of these runs, and one table of them; no notes."""
    assert jobs(runs) == list(names)
    (table,) = (runs / "tables").iterdir()
    assert left(table) >= TABLES
    assert not list(runs.glob(".sweep-*"))


ONE = "svd-uniform-constant-r0.3"


@pytest.mark.parametrize(
    "words",
    [
        ("++paths.runs=r",),
        ("paths.runs='r'",),
        ("-m", "paths.runs=choice(r)"),
        ("paths.runs=${oc.env:WHERE}",),
        ("study=r", "paths.runs=${study}"),
        ("paths={runs: r}",),
        ("paths.runs=${hydra:runtime.cwd}/r",),
        ("hydra.mode=MULTIRUN", "paths.runs=r${hydra:job.num}", "study=r0"),
    ],
    ids=" ".join,
)
def test_one_folder_and_no_other(
    words: tuple[str, ...], line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "r")
    ended = line(*words, "rate=0.3")
    assert ended.code == 0, ended.text[-3000:]
    (runs,) = tmp_path.iterdir()
    assert_kept_in(runs, ONE)
    assert left(runs) <= {"tiny", "tables", "multirun.yaml"}


def test_a_sweep_over_folders_leaves_a_table_in_each(line: Line, tmp_path: Path) -> None:
    ended = line("-m", "paths.runs=r1,'r 2'", "rate=range(0.3,0.5,0.1)")
    assert ended.code == 0, ended.text[-3000:]
    assert left(tmp_path) == {"r1", "r 2"}
    for runs in tmp_path.iterdir():
        assert_kept_in(runs, ONE, "svd-uniform-constant-r0.4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_in_which_nothing_is_written(line: Line, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    ended = line(f"++paths.runs={tmp_path / 'r'}", "rate=0.3", at=closed)
    assert ended.code == 0, ended.text[-3000:]
    assert line("-m", "rate=0.3", "dry_run=true", at=closed).code == 0
    ended = line("rate=0.3", at=closed)
    assert ended.code == 1
    assert "permission denied" in ended.err


def test_a_dry_run_leaves_nothing(line: Line, tmp_path: Path) -> None:
    ended = line("-m", "rate=0.3,0.4", "dry_run=true", "paths.runs=some/runs")
    assert ended.code == 0, ended.text[-3000:]
    assert ended.out.count("would run") == 2
    assert not left(tmp_path)


@pytest.mark.parametrize(
    ("words", "methods"),
    [
        (("-m", "method=glob(svd*,exclude=svdllm*)"), ["svd"]),
        (("-m", "method=choice(svd,dense)"), ["dense", "svd"]),
        (("-m", "method='svd','dense'"), ["dense", "svd"]),
        (("-m", "method=sort(svd,dense)"), ["dense", "svd"]),
        (("-m", "method=shuffle(svd,dense)"), ["dense", "svd"]),
        (("rate=0.3", "-m", "method=svd,dense"), ["dense", "svd"]),
        (("--multirun", "method=str(svd)"), ["svd"]),
        (("hydra.mode=MULTIRUN", "method=svd"), ["svd"]),
        (("method=svd", "allocator={minimum_rank: 2}"), ["svd"]),
        (("~experiment", "method=svd"), ["svd"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_grammar(
    words: tuple[str, ...], methods: list[str], line: Line, tmp_path: Path
) -> None:
    ended = line(*words, "dry_run=true", method="")
    assert ended.code == 0, ended.text[-3000:]
    names = [row.split("/tiny/")[1] for row in ended.out.splitlines() if "/tiny/" in row]
    assert sorted({"none": "dense"}.get(n.split("-")[0], n.split("-")[0]) for n in names) == methods


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-m", "method=glob(nothing*)"), ["method=glob(nothing*)", "no values"]),
        (("-m", "rate=range(0.4,0.1)"), ["rate=range(0.4,0.1)", "no values"]),
        (("-m", "seed=range(1,3,0)"), ["seed=range(1,3,0)", "zero"]),
        (("-m", "rate=interval(0.1,0.4)"), ["rate=interval(0.1,0.4)", "range("]),
        (("-m", "method='svd','svdlm'"), ["'svdlm'", "did you mean svdllm?"]),
        (("-m", "experiment=table02,table03"), ["experiment=table02,table03", "one command"]),
        (("paths.runs=${nope}",), ["nope"]),
        (
            (
                "-m",
                "paths.runs=${nope}",
            ),
            ["nope"],
        ),
        (("allocator@here=uniform",), ["allocator@here"]),
        (("~rate",), ["~rate", "rate=VALUE"]),
        (("~model",), ["model"]),
        (("--config-dir", "nowhere", "rate=0.3"), ["nowhere"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes(words: tuple[str, ...], told: list[str], line: Line, tmp_path: Path) -> None:
    ended = line(*words, method="")
    assert ended.code == 1, ended.text[-3000:]
    assert "Traceback" not in ended.text, ended.text[-3000:]
    assert ended.err.count("error: ") <= 1
    for word in told:
        assert word in ended.text
    assert not left(tmp_path)


def test_options_of_a_further_folder(line: Line, tmp_path: Path) -> None:
    """Also in jobs' own processes, which are given what they would compose differently; and a
    failing job still counts as failed.
    """
    more = tmp_path / "more"
    (more / "method").mkdir(parents=True)
    text = (ROOT / "conf" / "method" / "svd.yaml").read_text("utf-8")
    assert text.count("name: svd") == 1
    (more / "method" / "mine.yaml").write_text(text.replace("name: svd", "name: mine"))
    words = ("method=mine", "workers=1")
    runs = "paths.runs=r${hydra:job.num}"
    ended = line("--config-dir", "more", "-m", *words, runs, "rate=0.3,0.4", "study=r", method="")
    assert ended.code == 0, ended.text[-3000:]
    assert left(tmp_path) == {"more", "r0", "r1"}
    assert_kept_in(tmp_path / "r0", ONE)
    assert_kept_in(tmp_path / "r1", "svd-uniform-constant-r0.4")
    ended = line("--config-dir=more", "-m", "method=mine", "paths.runs=r", "rate=1.5", method="")
    assert ended.code == 1
    assert "rate=1.5" in ended.err
    words = (*words, "paths.runs=r0", "rate=0.3")
    ended = line(f"hydra.searchpath=[file://{more}]", *words, method="")
    assert ended.code == 0, ended.text[-3000:]
    assert "done already" in ended.text


STUDY = """# @package _global_
study: mine
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      model: owner/name,'./my models/a'
      rate: 0.3
"""


def test_a_study_names_models(
    line: Line, tmp_path: Path, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    """As the command line does, also in jobs' own processes."""
    for folder in (tmp_path / "owner" / "name", tmp_path / "my models" / "a"):
        make_model().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(STUDY, "utf-8")
    words = ("--config-dir", "conf", "experiment=mine")
    ended = line(*words, "workers=1", "paths.runs=r", model="")
    assert ended.code == 0, ended.text[-3000:]
    assert {path.parent.parent.name for path in (tmp_path / "r").glob("*/*/record.json")} == {
        "a",
        "name",
    }
    assert ended.text.count("model=owner/name: taking the folder ./owner/name") == 1
    ended = line(*words, "dry_run=true", model="model=./owner/name")
    assert ended.code == 0, ended.text[-3000:]
    assert ended.out.count("would run") == 1
