"""The bar: silent in a file; on a terminal what is done, how far, what is left, and the memory."""

from __future__ import annotations

import io
import time

import pytest

from flrc.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    assert list(progress(range(3), "counting", 3)) == [0, 1, 2]
    assert not out.getvalue()


def test_a_terminal_shows_memory_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    held = []
    for number in progress(range(4), "calibrating, block by block", 4):
        held.append(b"x" * 50_000_000 * (number == 1))
        time.sleep(0.25)
    text = out.getvalue()
    assert "calibrating, block by block" in text
    assert "3/4" in text
    assert "00:00<00:00" in text or "<00:" in text
    shown = [float(part.split(" GB")[0]) for part in text.split(", ")[1:] if " GB" in part]
    assert shown
    assert shown == sorted(shown)
    assert 0.05 < shown[-1] < 50
