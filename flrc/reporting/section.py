"""A part of a page before any markup: a heading, sentences, and a table."""

from __future__ import annotations

from dataclasses import dataclass, field

from flrc.reporting.grid import Grid


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
        title: Its heading.
        text: Sentences under it.
        grid: The table, if it has one.
        runs: Ids of the runs behind each cell, by row and column; None where no run is behind it.
    """

    title: str
    text: list[str] = field(default_factory=list)
    grid: Grid | None = None
    runs: list[list[list[str]]] | None = None
