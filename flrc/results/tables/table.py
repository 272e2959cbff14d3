"""A table: rows and columns of a layout, one value in each cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from flrc.results.tables.columns import SCHEDULED_TOLERANCE, Column
from flrc.results.tables.facts import DENSE, Facts
from flrc.results.tables.grid import MISSING, Cell, Grid, Row, shown_mean, shown_value
from flrc.results.tables.layout import Layout
from flrc.results.tables.value import Value

STORED = Column("targets/stored", "", "stored / dense", "")
BYTES = Column("model/bytes_of_dense", "", "bytes / dense", "")
SPENT = Column("rate", "", "rate spent", "")
TITLES = {"sensitivity": "score", "quantization": "precision"}
"""Fact -> heading, where they differ."""

Key = tuple[object, ...]
"""Values of the facts of a row, or of a group of columns."""
Find = Callable[[Facts, str], Value | None]
"""The value of a cell: facts of row and group, and name of the measurement."""


class Table:
    """Rows, groups of columns and values.

    Attributes:
        known: The facts whose rows and groups it has, one entry for each run.
        rows: The rows in the order of the layout.
        groups: The groups of columns in order; one empty one if the layout has none.
    """

    def __init__(self, layout: Layout, known: Sequence[Facts], find: Find) -> None:
        """Rows and groups in the order of the layout."""
        self.layout = layout
        self.known = list(known)
        self.find = find
        self.runs_in = Counter(_key(facts, layout.rows) for facts in known)
        self.rows = self._ordered(self.runs_in, layout.rows)
        groups = [_key(facts, [layout.group]) for facts in known if layout.group in facts]
        self.groups = self._ordered(groups, [layout.group]) if layout.group else [()]
        self.value = cache(lambda row, name, group=(): find(self.asked(row, group), name))
        """The value of a cell by row, measurement name and group; None if it was not measured."""

    @property
    def dense_rows(self) -> list[Key]:
        """The rows of dense models, which come first."""
        return [row for row in self.rows if _is_dense(self.asked(row))]

    def asked(self, row: Key, group: Key = ()) -> Facts:
        """The facts of a cell; for a dense row only those that a dense run has."""
        names = [*self.layout.rows, self.layout.group]
        pairs = zip(names, [*row, *group], strict=False)
        return {fact: value for fact, value in pairs if value is not None}

    def grid(
        self,
        columns: Sequence[Column],
        *,
        spent: bool = False,
        keep_empty: bool = False,
        footnote: Callable[[Facts, str], str] = lambda _facts, _name: "",
    ) -> Grid:
        """The cells as text.

        Args:
            columns: The measurements; their direction is that of their values.
            spent: Whether to add what is stored, relative to the dense model, and the rate that was
                spent if it differs from the requested one.
            keep_empty: Whether to keep a column without any number.
            footnote: Says what a cell lacks; empty if it lacks nothing.
        """
        heads: list[Column] = []
        cells: list[list[Cell]] = []  # by column
        footnotes: dict[str, int] = {}
        for group in self.groups:
            several = len(self.groups) > 1
            label = self.layout.label(self.layout.group, group[0]) if several else None
            for column in columns:
                values = [self.value(row, column.name, group) for row in self.rows]
                measured = [value for value in values if value is not None]
                if not measured and not keep_empty:
                    continue
                better = measured[0].higher_is_better if measured else None
                title = column.group if label is None else label
                heads.append(replace(column, group=title, higher_is_better=better))
                best = self._best(values, better)
                cells.append([])
                for row, value in zip(self.rows, values, strict=True):
                    text = footnote(self.asked(row, group), column.name)
                    note = footnotes.setdefault(text, len(footnotes) + 1) if text else 0
                    cells[-1].append(self._cell(value, row in best, note))
            if spent:
                for head, column_cells in self._cost(columns, group):
                    heads.append(replace(head, group=label or ""))
                    cells.append(column_cells)
        headings = self.layout.headings or self.layout.rows
        rows = [
            Row(
                [self._label(heading, row) for heading in headings],
                [column_cells[n] for column_cells in cells],
                n > 0 and row[:-1] != self.rows[n - 1][:-1],
            )
            for n, row in enumerate(self.rows)
        ]
        titles = [TITLES.get(heading, heading) for heading in headings]
        return Grid(titles, heads, rows, list(footnotes))

    def _ordered(self, keys: Counter[Key] | Sequence[Key], facts: list[str]) -> list[Key]:
        return sorted(
            dict.fromkeys(keys),
            key=lambda key: [self.layout.position(f, v) for f, v in zip(facts, key, strict=True)],
        )

    def _cell(self, value: Value | None, best: bool, note: int) -> Cell:
        text = shown_value(value, item_errors=self.layout.item_errors)
        return Cell(text, best, note, value.runs if value else ())

    def _label(self, heading: str, row: Key) -> str:
        if heading == "n":
            return str(self.runs_in[row])
        value = row[self.layout.rows.index(heading)]
        if value is None and "method" in (self.layout.headings or self.layout.rows):
            return ""  # the method's label says that the row is the dense model's
        return self.layout.label(heading, value)

    def _cost(self, columns: Sequence[Column], group: Key) -> list[tuple[Column, list[Cell]]]:
        """The rate that was spent, if any differs from the requested one, and what is stored.

        Stored are parameters of the targets, bytes are those of the whole model.
        """
        furthest = [self._furthest(row, columns, group) for row in self.rows]
        stored = [self.value(row, STORED.name, group) for row in self.rows]
        shares = [(STORED, [_cell_of(value, lambda v: f"{v.mean:.2f}") for value in stored])]
        size = [self.value(row, BYTES.name, group) for row in self.rows]
        if any(size) and BYTES.name not in {column.name for column in columns}:
            shares += [(BYTES, [_cell_of(value, lambda v: f"{v.mean:.2f}") for value in size])]
        if not any(self._is_off(row, v) for row, v in zip(self.rows, furthest, strict=True) if v):
            return shares
        rates = [_cell_of(value, lambda v: f"{100 * v.rate:.1f} %") for value in furthest]
        return [(SPENT, rates), *shares]

    def _furthest(self, row: Key, columns: Sequence[Column], group: Key) -> Value | None:
        """The value of a row whose rate is the furthest from the requested one.

        Perplexity is measured on the constant plan, a summary beside it under the schedule.
        """
        near = self.asked(row).get("rate", 0.0)
        values = [self.value(row, column.name, group) for column in columns]
        measured = [value for value in values if value is not None]
        return max(measured, key=lambda value: abs(value.rate - near), default=None)

    def _is_off(self, row: Key, value: Value) -> bool:
        # Where the rows do not name the rate, it is always shown.
        requested = float(self.asked(row).get("rate", math.inf))
        return abs(value.rate - requested) > SCHEDULED_TOLERANCE

    def _best(self, values: Sequence[Value | None], better: bool | None) -> set[Key]:
        """The best rows of each model and rate, without dense ones.

        Equal texts share the mark, unless all of them are equal.
        """
        if better is None:
            return set()
        competing: dict[object, dict[Key, Value]] = {}
        for row, value in zip(self.rows, values, strict=True):
            facts = self.asked(row)
            if value is not None and math.isfinite(value.mean) and not _is_dense(facts):
                place = facts.get("model"), facts.get("rate")
                competing.setdefault(place, {})[row] = value
        marked: set[Key] = set()
        for group in competing.values():
            top = shown_mean((max if better else min)(group.values(), key=lambda v: v.mean))
            equal = {row for row, value in group.items() if shown_mean(value) == top}
            marked |= equal if len(equal) < len(group) else set()
        return marked


def _cell_of(value: Value | None, text: Callable[[Value], str]) -> Cell:
    return Cell(MISSING) if value is None else Cell(text(value), runs=value.runs)


def _is_dense(facts: Facts) -> bool:
    method = facts.get("method")
    if method is None:
        return not facts or facts.get("rate") == 0
    return str(method).partition(" ·")[0] == str(DENSE["method"])


def _key(facts: Facts, names: Sequence[str]) -> Key:
    return tuple(facts.get(name) for name in names)
