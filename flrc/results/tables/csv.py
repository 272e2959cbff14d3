"""A table in CSV, at full precision, for further computation."""

from __future__ import annotations

import pandas as pd

from flrc.results.tables.table import Table


def render(table: Table) -> str:
    """One line per row; per column the mean, and where there are any ``std``, ``n``, ``stderr``.

    A missing value is an empty field, a value that is not a number says ``nan``.
    """
    parts: dict[str, pd.Series[str]] = {"n": table.seeds.astype(str), "runs": table.runs}
    several = bool((table.seeds > 1).any())
    for column in table.columns:
        name, counts = column.name, table.count[column.name]
        if not (counts > 0).any():
            continue
        parts[name] = table.mean[name].map(repr).where(counts > 0, "")
        if several:
            parts[f"{name} std"] = table.deviation[name].map(repr).where(counts > 1, "")
            parts[f"{name} n"] = counts.astype(str)
        if table.stderr[name].notna().any():
            parts[f"{name} stderr"] = (
                table.stderr[name].map(repr).where(table.stderr[name].notna(), "")
            )
    return pd.DataFrame(parts).reset_index().to_csv(index=False, lineterminator="\n")
