"""The page of resources is what its script writes, and its machine is that of the records."""

from __future__ import annotations

from pathlib import Path

import pytest
import resources_page

PAGE = Path(__file__).parents[2] / "docs" / "resources.md"


@pytest.mark.slow
def test_the_page_is_current() -> None:
    command = "python scripts/resources_page.py docs/resources.md"
    assert PAGE.read_text("utf-8") == resources_page.page(), command


def test_a_row_of_the_page_is_current() -> None:
    rates = resources_page.rates()
    assert 1e11 < rates.single < 2e11
    reckoning = resources_page.reckoned("1 B", "svdllm", "float32")
    cells = ["1 B", "`svdllm`", f"{2 * resources_page.minutes(reckoning):,.0f}"]
    rows = [[cell.strip() for cell in line.split("|")] for line in PAGE.read_text().splitlines()]
    (row,) = [row for row in rows if row[1:3] == cells[:2] and len(row) == 10]
    assert row[4] == cells[2]
    assert row[5] == resources_page.gigabytes(resources_page.peak(reckoning, cuda=False)[0])


def test_measured_memory_is_near_the_reckoned() -> None:
    """Of large models, whose memory is that of the stages and not of the process."""
    for row in resources_page.measured():
        assert float(row[3]) == pytest.approx(float(row[2]), rel=0.1)
