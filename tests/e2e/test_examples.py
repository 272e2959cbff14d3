"""The examples run as they stand, on a tiny model and the sample data."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> object:
    """Runs an example in an empty folder; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_compress_in_memory(example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    printed = example("compress_in_memory.py", "--rate", "0.3")
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if "_proj" in line}
    assert set(rows) == {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    assert all(len(row) == 3 for row in rows.values())
    assert "rate 0.3000, stored / dense 0.700" in printed
    assert "same logits after loading: True" in printed
    assert (tmp_path / "compressed" / "config.json").is_file()


def test_compare_methods(example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = ("--methods", "svd", "svdllm", "--rates", "0.2", "0.4", "--output", "plot.png")
    printed = example("compare_methods.py", *arguments)
    rows = {line.split()[0]: line for line in printed.splitlines() if line}
    assert rows["svd"].count("±") == rows["svdllm"].count("±") == 2
    assert "dense" in rows
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "runs").rglob("record.json"))) == 5
