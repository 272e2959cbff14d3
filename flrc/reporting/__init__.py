"""Tables and plots from records; nothing here is computed that a record does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.records.record import Record

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_table", "render"]


def render(
    records: Sequence[Record], output: Path, formats: Sequence[str] | None = None
) -> list[Path]:
    """Write the table of these records; see :func:`flrc.reporting.report.render`."""
    from flrc.reporting import report

    return report.render(records, output, formats)


def print_table(records: Sequence[Record], console: Console | None = None) -> None:
    """Print the table of these records; see :func:`flrc.reporting.report.print_table`."""
    from flrc.reporting import report

    report.print_table(records, console)
