"""The order of the studies in a report: the paper's tables come first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from flrc.results.studies.expected import read_expected
from flrc.results.tables.layout import read_layout

TABLES, PARTS, OTHERS = "Tables of the paper", "Other parts of the papers", "Further studies"
"""What a study reproduces, in the order of a report."""


def in_order(folders: Iterable[Path]) -> list[tuple[str, Path]]:
    """What each study reproduces, and its folder: tables by number, others by name.

    Raises:
        UserError: If ``table.yaml`` or ``expected.yaml`` does not have the expected form.
    """
    placed = [(*_place(folder), folder) for folder in folders]
    kinds = (TABLES, PARTS, OTHERS)
    placed.sort(key=lambda entry: (kinds.index(entry[0]), entry[1], entry[2].name))
    return [(kind, folder) for kind, _, folder in placed]


def _place(folder: Path) -> tuple[str, int]:
    """What the study reproduces, and the table's number (0 if it is no table)."""
    layout, expected = read_layout(folder), read_expected(folder)
    if layout is None or expected is None:
        return OTHERS, 0
    table = re.fullmatch(r"Table (\d+)", layout.place)
    return (TABLES, int(table[1])) if table else (PARTS, 0)
