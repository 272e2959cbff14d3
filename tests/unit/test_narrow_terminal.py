"""Tables and errors on a narrow terminal: broken between words, and no number is cut."""

from __future__ import annotations

import io
import os
import sys

import pytest
from rich.console import Console

from flrc.core.error_output import print_error
from flrc.errors import UserError
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import Cell, Grid, Row
from flrc.results.tables.terminal import print_grid

INTERVAL = "14.52 / 6.63 (+6.1 to +9.7)"


def claims(rate: str) -> Grid:
    labels = ["SVD-LLM + FLRA + PLRD", "SVD-LLM + FLRA", "DialogSum ROUGE-L", rate]
    row = Row(labels, [Cell("17.35 / 13.28"), Cell(INTERVAL), Cell("holds")])
    columns = [Column(name, "", name, "") for name in ("paper", "here", "verdict")]
    return Grid(["better", "worse", "metric", "rate"], columns, [row])


def printed(grid: Grid, width: int) -> str:
    out = io.StringIO()
    print_grid(grid, Console(file=out, width=width))
    return out.getvalue()


def test_labels_are_broken_where_a_number_would_be_cut() -> None:
    text = printed(claims(rate="20 %"), 80)
    assert INTERVAL in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_label_column_without_text_is_left_out() -> None:
    assert "rate" in printed(claims(rate="20 %"), 160)
    assert "rate" not in printed(claims(rate=""), 160)


def test_what_is_allowed_is_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = [f"method_number_{number}" for number in range(20)]
    fix = "python run.py " + " ".join(f"method={name}" for name in methods)
    error = UserError("no such method", given="method", allowed=methods, fix=fix)
    print_error(error)
    assert str(error) in capsys.readouterr().err  # in a file each stays one line
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    print_error(error)
    lines = capsys.readouterr().err.splitlines()
    assert f"  fix:     {fix}" in lines  # to be copied
    begin = next(k for k, line in enumerate(lines) if line.startswith("  allowed: "))
    allowed = lines[begin : lines.index(f"  fix:     {fix}")]
    allowed = [line for line in allowed if not line.startswith("  nearest")]
    assert all(len(line) <= 80 for line in allowed)
    assert all(line.startswith(" " * 11) for line in allowed[1:])
    assert " ".join("".join(line[11:] + " " for line in allowed).split()) == ", ".join(
        sorted(methods)
    )
