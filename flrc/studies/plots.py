"""A study's plots: what of its records is better seen than read."""

from __future__ import annotations

from pathlib import Path

from flrc.reporting import plot
from flrc.reporting.report import presets
from flrc.reporting.table import build
from flrc.studies.page import Study


def draw(study: Study, output: Path) -> list[Path]:
    """Draw what the study's records hold; nothing for a study without a finished run.

    Returns:
        The PNG files below ``output``.
    """
    records = [run.record for run in study.runs]
    if not records:
        return []
    return plot.draw(build(records, presets()), output / "plot.png")
