"""The page of a study: its rendered tables, their numbers, its plots and verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flrc.core import jsonfile
from flrc.results.records.rows import Rows
from flrc.results.studies import orders
from flrc.results.studies.files import numbers
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import Study
from flrc.results.tables.grid import Cell, Grid
from flrc.results.tables.section import Section
from flrc.tracking.pages import Page, tag

OWN = "table"
"""Key of the study's own table; the others are named after their headings."""


def study_page(study: Study, scale: str, folder: Path) -> Page:
    """The page of a study, with the plots in ``folder``."""
    sections = sections_of(study)
    tables = {
        OWN if section is sections[0] else _key(section.title): _table(section.grid)
        for section in sections
        if section.grid is not None
    }
    columns, rows = numbers(study)
    runs = [run.id for run in study.runs]
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
        tables={**tables, "numbers": Rows(columns, rows)},
        notes=_notes(sections),
        pictures={f"plots/{path.stem}": path for path in sorted(folder.glob("*.png"))},
    )


def _table(grid: Grid) -> Rows:
    columns = [*grid.label_titles, *(column.title for column in grid.columns)]
    return Rows(columns, [[*row.labels, *map(_text, row.cells)] for row in grid.rows])


def _text(cell: Cell) -> str:
    return f"{cell.text} [{cell.note}]" if cell.note else cell.text


def _verdicts(sections: Sequence[Section]) -> dict[str, int]:
    """How often each verdict on the paper's orders was reached; nothing if it claims none."""
    verdicts = [
        cell.text
        for section in sections
        if section.grid is not None
        for row in section.grid.rows
        for column, cell in zip(section.grid.columns, row.cells, strict=True)
        if column.name == orders.VERDICT
    ]
    return (
        {f"claims/{_key(v)}": verdicts.count(v) for v in (*orders.VERDICTS, orders.NOT_FINITE)}
        if verdicts
        else {}
    )


def _notes(sections: Sequence[Section]) -> str:
    """The text around the tables: headings, sentences, footnotes."""
    parts = []
    for section in sections:
        numbered = section.grid.numbered_footnotes if section.grid is not None else []
        notes = [f"- {text}" for text in numbered]
        parts += [
            f"## {section.title}",
            *section.text,
            *section.notes,
            *(["\n".join(notes)] if notes else []),
        ]
    return "\n\n".join(parts)


def _key(title: str) -> str:
    """``Ours minus the paper's`` as ``ours_minus_the_papers``."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower().replace("'", "")).strip("_")
