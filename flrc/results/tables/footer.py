"""The text under a table in a terminal: what a reader needs so as not to misread its numbers."""

from __future__ import annotations

from collections.abc import Callable

from flrc.results.tables.data_sets import summarised
from flrc.results.tables.notes import BEST
from flrc.results.tables.runs_table import RunsTable

BEST_MARK = "*"
"""Behind the best cells: a terminal without colours, or a file, shows it too."""
ROOM = 3
"""Lines of the footer under a table of one row."""
NAMED = (12, 4, 1)
"""How many data sets to name of those that are alike, the first number that fits."""
SAMPLE = "Sample data, not comparable with published numbers"
DATA = "Data"


def footer(table: RunsTable, fits: Callable[[str], bool]) -> list[str]:
    """Signs, data, sizes and rates; everything else is in the files.

    Under a table of one row they are one paragraph, which names as many data sets as fit.

    Args:
        table: The table above it.
        fits: Whether a text takes at most ``ROOM`` lines.
    """
    if len(table.rows) > 1:
        return _sentences(table, NAMED[0])
    texts = [" ".join(_sentences(table, named)) for named in NAMED]
    return [next(filter(fits, texts), texts[-1])]


def _sentences(table: RunsTable, named: int) -> list[str]:
    sets = table.data_sets
    sample = [data for data in sets if data.is_sample]
    others = [data for data in sets if not data.is_sample]
    scheduled = [data.name for data in sets if data.scheduled]
    which = ", ".join(scheduled) if len(scheduled) <= named else f"{len(scheduled)} data sets"
    own = "its own rate" if len(scheduled) == 1 else "their own rates"
    apart = f"{which} at {own}, the rest at the realised one."
    return [
        *[f"{BEST_MARK}: {BEST}"] * table.text_grid.has_best,
        *table.notes.marks,
        *[f"{DATA}: {summarised(others, named)}."] * bool(others),
        *[f"{SAMPLE}: {summarised(sample, named)}."] * bool(sample),
        *[apart] * bool(scheduled),
        *table.notes.warnings,
    ]
