"""The page of a study: its tables as rendered, their numbers, its plots, its verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flrc.core import jsonfile
from flrc.results.studies import orders, render
from flrc.results.studies.page import page as sections_of
from flrc.results.studies.study import Study
from flrc.results.tables.grid import Cell, Grid
from flrc.results.tables.section import Section
from flrc.tracking.pages import Page, Table, tag

OWN = "table"
"""Key of the study's own table; the others are named after their headings."""


def page(study: Study, scale: str, folder: Path) -> Page:
    """The page of a study.

    Args:
        study: What ``folder`` was rendered from.
        scale: Its scale.
        folder: Where its rendered files are, ``<runs>/studies/<study>-<scale>``.
    """
    sections = sections_of(study)
    tables = {
        OWN if section is sections[0] else _key(section.title): _table(section.grid)
        for section in sections
        if section.grid is not None
    }
    columns, rows = render.numbers(study)
    runs = [str(run.record.run["id"]) for run in study.runs]
    return Page(
        id=jsonfile.digest({"study": study.name, "scale": scale}),
        name=f"{study.name}-{scale}",
        group=study.name,
        job_type="study",
        tags=[tag("study", study.name), tag("scale", scale)],
        config={
            "study": study.name,
            "scale": scale,
            "place": study.layout.place,
            "caption": study.layout.caption,
            "source": study.expected.source if study.expected else None,
            "runs": runs,
        },
        summary={"runs": len(runs), "jobs": len(study.jobs), **_verdicts(sections)},
        tables={**tables, "numbers": Table(columns, rows)},
        notes=_notes(sections),
        pictures={f"plots/{path.stem}": path for path in sorted(folder.glob("*.png"))},
    )


def _table(grid: Grid) -> Table:
    columns = [*grid.label_titles, *(column.title for column in grid.columns)]
    return Table(columns, [[*row.labels, *map(_text, row.cells)] for row in grid.rows])


def _text(cell: Cell) -> str:
    return f"{cell.text} [{cell.note}]" if cell.note else cell.text


def _verdicts(sections: Sequence[Section]) -> dict[str, int]:
    """How many of the paper's orders came out in which way; nothing where it claims none."""
    found = [
        cell.text
        for section in sections
        if section.grid is not None
        for row in section.grid.rows
        for column, cell in zip(section.grid.columns, row.cells, strict=True)
        if column.name == orders.VERDICT
    ]
    return (
        {f"claims/{_key(v)}": found.count(v) for v in (*orders.VERDICTS, orders.NOT_FINITE)}
        if found
        else {}
    )


def _notes(sections: Sequence[Section]) -> str:
    """What stands around the tables: headings, sentences, footnotes."""
    parts = []
    for section in sections:
        missing = section.grid.footnotes if section.grid is not None else []
        notes = [f"- [{k}] {text}" for k, text in enumerate(missing, 1)]
        parts += [f"## {section.title}", *section.text, *(["\n".join(notes)] if notes else [])]
    return "\n\n".join(parts)


def _key(title: str) -> str:
    """``Ours minus the paper's`` as ``ours_minus_the_papers``."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower().replace("'", "")).strip("_")
