"""Command lines of any groups, values and typos: one clear error, or a run that ends well."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CONF

from flrc.config import GROUPS, RunConfig, components
from flrc.errors import UserError
from flrc.library.compression import configuration
from flrc.pipeline import run
from flrc.running.preflight import check_inputs, prepare

OPTIONS = {
    group: sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    for group in (*GROUPS, "method")
}
SWEPT = [
    *("method", "decomposition", "grouping", "form", "sensitivity", "allocator", "schedule"),
    *("search", "refine", "quantization"),
]
VALUES = ["0", "1", "2", "-1", "0.3", "1e9", "nan", "inf", "null", "true", "abc", "", "[]", "[1,2]"]
VALUES += ["[a]", "{}", "{a: 1}", "'0'", "${rate}", "${nope}", "???", "a b", "[", "1,2", "é"]


def tiny(root: Path, tmp_path: Path) -> list[str]:
    """What makes a run small; a fuzzed override comes later and takes precedence."""
    return [
        "model=tiny",
        "data=folder",
        f"data.root={root}",
        "calibration=wikitext2",
        "calibration.samples=2",
        "calibration.length=32",
        "evaluation=[perplexity]",
        "evaluation.perplexity.length=64",
        "evaluation.perplexity.windows=2",
        "device=cpu",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}",
    ]


def keys() -> list[str]:
    """Every key that some component has, and those of the run."""
    found = [f.name for f in dataclasses.fields(RunConfig) if f.name not in GROUPS]
    for group in GROUPS:
        for component in components(group).values():
            found += [f"{group}.{f.name}" for f in dataclasses.fields(component)]
    # Evaluations are under their names; folders of this machine are not fuzzed.
    words = ("evaluation.", "paths", "model.path", "data.root", "folder", "model.save")
    return sorted({key for key in found if not any(word in key for word in words)})


KEYS = keys()


@st.composite
def typo(draw: st.DrawFn, word: str) -> str:
    """Occasionally an override with a letter removed, doubled or replaced."""
    if draw(st.integers(0, 9)) or not word:
        return word
    at = draw(st.integers(0, len(word) - 1))
    return word[:at] + draw(st.sampled_from(["", "x", word[at] * 2, "."])) + word[at + 1 :]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Groups first, then values of any keys, each perhaps mistyped."""
    words = []
    for group in draw(st.lists(st.sampled_from(SWEPT), max_size=3, unique=True)):
        option = draw(st.sampled_from(OPTIONS[group]))
        words.append(f"{draw(typo(group))}={draw(typo(option))}")
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=1)):
        words.append(f"{draw(typo(key))}={draw(st.sampled_from(VALUES))}")
    return words


def prepared(words: list[str]) -> RunConfig:
    """As far as a run gets before any computation."""
    config = configuration(words)
    check_inputs(config)
    prepare(config)
    return config


def test_command_lines(share: float, data_root: Path, tmp_path: Path) -> None:
    """The only error is a UserError, and it states what was given."""
    base = tiny(data_root, tmp_path)
    refused: list[str] = []
    passed: list[list[str]] = []

    @settings(
        max_examples=int(100 * share),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(words=command_lines())
    def check(words: list[str]) -> None:
        try:
            prepared([*base, *words])
        except UserError as error:
            refused.append(str(error))
        else:
            passed.append(words)

    check()
    assert min(len(refused), len(passed)) >= 20 * share
    assert all(len(told.splitlines()[0]) > 10 for told in refused)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[] if n < 2 else pytest.mark.slow) for n in range(4)]
)
def test_what_passes_the_checks_runs(
    seed: int, data_root: Path, tmp_path: Path, run_config: Callable[..., Any]
) -> None:
    """Combinations of groups that pass the checks succeed, with the requested rate."""
    base = tiny(data_root, tmp_path)
    passed: list[RunConfig] = []

    @settings(
        max_examples=8 + 2 * seed,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def look(data: st.DataObject) -> None:
        groups = data.draw(st.lists(st.sampled_from(SWEPT), min_size=2, max_size=4, unique=True))
        words = [f"{group}={data.draw(st.sampled_from(OPTIONS[group]))}" for group in groups]
        rate = data.draw(st.sampled_from(["0.2", "0.3", "0.5"]))
        try:
            config = prepared([*base, *words, f"rate={rate}", "search=none"])
        except UserError:
            return
        passed.append(config)

    look()
    config = passed[-1]
    record = run(config)
    assert record.run["status"] == "ok", (record.run, config)
    assert all(0 < m.value < float("inf") for m in record.measurements)
