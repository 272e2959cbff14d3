"""A table of runs in CSV, at full precision, for further computation."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from flrc.results.tables.runs_table import FACTS, RunsTable


def csv_text(table: RunsTable) -> str:
    """One line per row; per column the mean, and where there are any ``std``, ``n``, ``stderr``.

    A missing value is an empty field, a value that is not a number says ``nan``.
    """
    several = any(table.runs_in[row] > 1 for row in table.rows)
    columns: dict[str, list[Any]] = {
        fact: [key[place] for key in table.keys] for place, fact in enumerate(FACTS)
    }
    columns["n"] = [table.runs_in[row] for row in table.rows]
    columns["runs"] = [", ".join(table.run_ids(row)) for row in table.rows]
    for column in table.columns:
        values = [table.value(row, column.name) for row in table.rows]
        columns[column.name] = [_field(v.mean) if v else "" for v in values]
        if several:
            columns[f"{column.name} std"] = [_field(v.deviation) if v else "" for v in values]
            columns[f"{column.name} n"] = [str(v.count if v else 0) for v in values]
        if any(v and v.stderr is not None and not math.isnan(v.stderr) for v in values):
            columns[f"{column.name} stderr"] = [_field(v.stderr) if v else "" for v in values]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _field(number: float | None) -> str:
    return "" if number is None else repr(number)
