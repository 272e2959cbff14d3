"""The package works without the packages of its extras, and says which one is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tiny import CONF, ROOT, compose

from flrc.config import register
from flrc.core import extras
from flrc.core.extras import EXTRAS
from flrc.errors import UserError
from flrc.running.preflight import check_inputs
from flrc.sweeps.arguments import ConfigLocation
from flrc.sweeps.override_checks import check_overrides

AFTER_CHECK = ("flrc.evaluation.lm_eval_replies", "flrc.evaluation.text_metrics")
"""Modules that import an optional package at their head; imported once it was checked."""
IMPORT_ALL = """
import importlib, pkgutil, sys
optional, after_check = (words.split(",") for words in sys.argv[1:])
sys.modules |= dict.fromkeys(optional)  # importing one of them fails
import flrc
names = [module.name for module in pkgutil.walk_packages(flrc.__path__, "flrc.")]
failed = []
for name in names:
    try:
        importlib.import_module(name)
    except ImportError:
        failed.append(name)
assert len(names) > 200
assert failed == after_check, failed
"""


def project() -> dict[str, list[str]]:
    """The core dependencies under an empty name, and those of each extra."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {"": about["dependencies"], **about["optional-dependencies"]}


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name.replace("-", "_") for line in requirements}


def test_every_optional_package_is_in_its_extra_only() -> None:
    declared = project()
    for module, extra in EXTRAS.items():
        homes = {name for name in declared if module in names(declared[name])}
        assert homes == {extra}, module
    for extra in set(EXTRAS.values()):
        assert names(declared[extra]) <= EXTRAS.keys()


def test_a_launcher_without_its_package_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("flrc.sweeps.override_checks.distribution", missing)
    register()
    packages = names(project()[extras.LAUNCHERS])
    for path in (CONF / "launcher").glob("*.yaml"):
        if path.stem == "basic":
            continue
        with pytest.raises(UserError) as raised:
            check_overrides(ConfigLocation(str(CONF)), [f"launcher={path.stem}"], True)
        assert raised.value.problem.rpartition(" ")[2].replace("-", "_") in packages
        assert raised.value.fix == f"pip install 'flrc[{extras.LAUNCHERS}]'"


def test_all_is_every_extra_that_users_need() -> None:
    (everything,) = (Requirement(line) for line in project()["all"])
    assert everything.extras == project().keys() - {"", "all", "docs", "dev"}


def test_every_module_can_be_imported_without_them() -> None:
    words = [",".join(EXTRAS), ",".join(AFTER_CHECK)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "override"),
    [
        ("lm_eval", "evaluation=[zeroshot]"),
        ("datasets", "evaluation=[zeroshot]"),
        ("bert_score", "evaluation=[summarization]"),
        ("rouge_score", "evaluation=[summarization]"),
        ("evaluate", "evaluation=[summarization]"),
        ("datasets", "data=hub"),
        ("optuna", "allocator=bayesian"),
        ("optuna", "allocator=probed_surrogate"),
        ("wandb", "tracker=wandb"),
    ],
)
def test_a_run_that_needs_a_missing_one_names_the_command(
    module: str, override: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = [f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache"]
    config = compose("model=tiny", "evaluation=[perplexity]", *folders, override)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as raised:
        check_inputs(config)
    assert raised.value.problem.startswith(override)
    assert module in raised.value.problem
    assert raised.value.fix == f"pip install 'flrc[{EXTRAS[module]}]'"
    assert not list(tmp_path.iterdir())


def test_a_run_needs_only_what_it_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in EXTRAS:
        monkeypatch.setitem(sys.modules, module, None)
    folders = [f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache"]
    check_inputs(compose("model=tiny", "evaluation=[perplexity]", "method=kfac_skip", *folders))


def test_several_missing_ones_take_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pandas", "lm_eval"):
        monkeypatch.setitem(sys.modules, module, None)
    missing = extras.not_installed(["pandas", "lm_eval", "wandb"])
    assert missing == ["pandas", "lm_eval"]
    assert extras.install_command(missing) == "pip install 'flrc[evaluation,report]'"
