"""A section of a page: a heading, a table and the text around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from flrc.errors import UserError
from flrc.results.records.record import Record
from flrc.results.tables.columns import settings_groups
from flrc.results.tables.grid import Grid
from flrc.results.tables.group_names import group_names
from flrc.results.tables.labels import Presets
from flrc.results.tables.runs_table import RunsTable


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        title: Its heading; empty for none.
        text: Paragraphs.
        grid: Its table, if it has one.
        notes: How to read the table, line by line.
    """

    title: str
    text: list[str] = field(default_factory=list)
    grid: Grid | None = None
    notes: list[str] = field(default_factory=list)


def runs_sections(records: Iterable[Record], presets: Presets, title: str = "") -> list[Section]:
    """One section for each group of finished runs that were measured under the same settings.

    The settings in which they differ follow ``title`` where there are several.
    """
    groups = settings_groups(records)
    several = len(groups) > 1
    sections = []
    for group, name in zip(groups, group_names(groups), strict=True):
        heading = ", ".join(part for part in (title, name.title) if part)
        try:
            table = RunsTable(group, presets)
        except UserError as error:  # one table that cannot be made must not hide the others
            sections.append(Section(heading, [str(error)]))
            continue
        text = [f"Model: {', '.join(table.models)}."] if len(table.models) == 1 else []
        text += [*(table.notes.settings if several else []), *table.reading]
        sections.append(Section(heading, text, table.text_grid))
    return sections
