"""A study's plots: what of its records is better seen than read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flrc.results.pages.report import presets
from flrc.results.plots import figures, plot
from flrc.results.records.record import Record
from flrc.results.tables.labels import Presets
from flrc.results.tables.table import build
from flrc.results.tables.value import Run


def _quality(records: Sequence[Record], path: Path, known: Presets) -> list[Path]:
    """Headline metrics against the rate; bars at a single one."""
    return plot.draw(build(records, known), path)


PLOTS: dict[str, figures.Draw] = {
    "quality": _quality,
    **{name: kind.draw for name, kind in figures.PLOTS.items()},
}
"""What ``plots`` of a ``table.yaml`` may name."""


def draw(names: Sequence[str], runs: Sequence[Run], output: Path) -> list[Path]:
    """Draw what the study's layout names and its records hold.

    Returns:
        ``<output>/<name>.png``, in the order of the names.
    """
    records = list({str(run.record.run["id"]): run.record for run in runs}.values())
    written: list[Path] = []
    for name in names if records else ():
        written += PLOTS[name](records, output / f"{name}.png", presets())
    return written
