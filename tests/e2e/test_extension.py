"""A new allocator takes one file and one YAML: sweeps, tables and contract tests include it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from running import ROOT, Place, environment


def documented(language: str) -> str:
    """The code block of a language in CONTRIBUTING.md: what a contributor is asked to write."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    block = re.search(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    return textwrap.dedent(block[2])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the repository with an additional allocator."""
    root = tmp_path / "repository"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("flrc", "conf", "scripts", "tests/contracts"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for file in (ROOT / "run.py", ROOT / "pyproject.toml", *(ROOT / "tests").glob("*.py")):
        target = root / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (root / "flrc/allocator/by_width.py").write_text(documented("python"))
    (root / "conf/allocator/by_width.yaml").write_text(documented("yaml"))
    return root


def test_in_a_sweep_and_its_table(place: Place, repository: Path) -> None:
    arguments = ("method=svdllm", "rate=0.3", "allocator=uniform,by_width")
    ended = place.run("-m", *arguments, "evaluation=perplexity", root=repository)
    assert ended.code == 0, ended.text[-3000:]
    by_width, uniform = (place.record(f"whitened-{name}-") for name in ("by_width", "uniform"))
    assert by_width["run"]["components"]["allocator"] == "by_width"
    assert by_width["run"]["config"]["allocator"]["exponent"] == 1.0
    ranks = {
        name: [
            layer["rank"] or layer["shape"][0]
            for layer in by_width["results"]["layers"]
            if layer["projection"] == name
        ]
        for name in ("q_proj", "down_proj")
    }
    assert min(ranks["down_proj"]) > max(ranks["q_proj"])
    assert by_width["results"]["rate"]["realised"] == pytest.approx(0.3, abs=2e-3)
    assert uniform["results"]["layers"] != by_width["results"]["layers"]
    assert len(place.entries("factors")) == 1, "allocators share the factors"
    rows = [line for line in ended.out.splitlines() if "svdllm" in line]
    assert any("by_width" in row for row in rows), ended.out


def test_contract_tests_pick_it_up(repository: Path) -> None:
    contracts = repository / "tests/contracts"
    if not list(contracts.glob("test_*.py")):
        pytest.skip("there are no contract tests")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "by_width", str(contracts)],
        cwd=repository,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 1
