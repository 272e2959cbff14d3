"""A table of runs in CSV, at full precision, for further computation."""

from __future__ import annotations

import math

import pandas as pd

from flrc.results.tables.runs_table import FACTS, RunsTable


def csv_text(table: RunsTable) -> str:
    """One line per row; per column the mean, and where there are any ``std``, ``n``, ``stderr``.

    A missing value is an empty field, a value that is not a number says ``nan``.
    """
    frame = pd.DataFrame(table.keys, columns=list(FACTS))
    frame["n"] = [table.runs_in[row] for row in table.rows]
    frame["runs"] = [", ".join(table.run_ids(row)) for row in table.rows]
    several = bool((frame["n"] > 1).any())
    parts = {}
    for column in table.columns:
        values = [table.value(row, column.name) for row in table.rows]
        parts[column.name] = [_field(v.mean) if v else "" for v in values]
        if several:
            parts[f"{column.name} std"] = [_field(v.deviation) if v else "" for v in values]
            parts[f"{column.name} n"] = [str(v.count if v else 0) for v in values]
        if any(v and v.stderr is not None and not math.isnan(v.stderr) for v in values):
            parts[f"{column.name} stderr"] = [_field(v.stderr) if v else "" for v in values]
    return pd.concat([frame, pd.DataFrame(parts)], axis=1).to_csv(index=False, lineterminator="\n")


def _field(number: float | None) -> str:
    return "" if number is None else repr(number)
