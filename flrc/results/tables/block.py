"""A table in the paper's layout: rows and groups of columns, filled cell by cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from flrc.results.tables.columns import Column
from flrc.results.tables.facts import DENSE, Facts
from flrc.results.tables.grid import MISSING, Cell, Grid, Row, number
from flrc.results.tables.layout import Layout
from flrc.results.tables.value import Value

STORED = Column("targets/stored", "", "stored / dense", "")
SPENT = "rate spent"
SPENT_TOLERANCE = 1e-3
"""A number measured further than this from the asked rate gets its rate printed beside it."""

Find = Callable[[Facts, str], Value | None]


class Block:
    """Rows and groups of columns, filled by a function of facts and measurement name."""

    def __init__(self, layout: Layout, known: Sequence[Facts], find: Find) -> None:
        """Rows and groups are those of the known facts."""
        self.layout = layout
        self.known = list(known)
        self.find = find
        self.rows = self._order([_key(facts, layout.rows) for facts in known], layout.rows)
        groups = [_key(facts, [layout.group]) for facts in known if layout.group in facts]
        self.groups = self._order(groups, [layout.group]) if layout.group else [()]

    def _order(self, keys: Sequence[tuple[object, ...]], facts: list[str]) -> list:  # type: ignore[type-arg]
        return sorted(
            dict.fromkeys(keys),
            key=lambda key: [self.layout.position(f, v) for f, v in zip(facts, key, strict=True)],
        )

    def asked(self, row: tuple[object, ...], group: tuple[object, ...]) -> Facts:
        """The facts of a cell; of a dense row only what a dense run has."""
        pairs = zip([*self.layout.rows, self.layout.group], [*row, *group], strict=False)
        return {fact: what for fact, what in pairs if what is not None}

    def grid(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        spent: bool = False,
        keep_empty: bool = False,
        missing: Callable[[Facts, str], str] = lambda _facts, _name: "",
    ) -> tuple[Grid, list[list[list[str]]]]:
        """The table, and the ids behind each cell.

        Args:
            columns: Measurement names and titles.
            spent: Whether to add the stored share, and the spent rate where it is not the asked.
            keep_empty: Whether a column without any number stands all the same.
            missing: The footnote of a cell of which something is not measured yet; empty for none.
        """
        values = {
            (row, group, name): self.find(self.asked(row, group), name)
            for row in self.rows
            for group in self.groups
            for name in (*(name for name, _ in columns), STORED.name)
        }
        heads: list[Column] = []
        cells: dict[tuple[object, ...], list[Cell]] = {row: [] for row in self.rows}
        runs: dict[tuple[object, ...], list[list[str]]] = {row: [] for row in self.rows}
        footnotes: dict[str, int] = {}
        for group in self.groups:
            label = self.layout.label(self.layout.group, group[0]) if group else ""
            for name, title in columns:
                column = {row: values[row, group, name] for row in self.rows}
                if not keep_empty and all(v is None for v in column.values()):
                    continue
                heads.append(_head(name, title, label, column.values()))
                best = self._best(column, heads[-1])
                for row in self.rows:
                    found, text = column[row], missing(self.asked(row, group), name)
                    note = footnotes.setdefault(text, len(footnotes) + 1) if text else 0
                    cells[row].append(Cell(_text(found), row in best, note))
                    runs[row].append([] if found is None else found.runs)
            if not spent:
                continue
            furthest = {
                row: self._furthest(row, [values[row, group, name] for name, _ in columns])
                for row in self.rows
            }
            if any(self._off(row, found) for row, found in furthest.items()):
                heads.append(Column("rate", label, SPENT, ""))
                for row, found in furthest.items():
                    cells[row].append(Cell(f"{100 * found.rate:.1f} %" if found else MISSING))
                    runs[row].append(found.runs if found else [])
            heads.append(Column(STORED.name, label, STORED.metric, ""))
            for row in self.rows:
                found = values[row, group, STORED.name]
                cells[row].append(Cell(f"{found.mean:.2f}" if found else MISSING))
                runs[row].append(found.runs if found else [])
        rows = [
            Row(self._labels(row), cells[row], n > 0 and row[0] != self.rows[n - 1][0])
            for n, row in enumerate(self.rows)
        ]
        if len(self.layout.rows) == 1:
            rows = [Row(row.labels, row.cells, False) for row in rows]
        grid = Grid([_title(fact) for fact in self.layout.rows], heads, rows, list(footnotes))
        return grid, [runs[row] for row in self.rows]

    def _labels(self, row: tuple[object, ...]) -> list[str]:
        return [self.layout.label(f, what) for f, what in zip(self.layout.rows, row, strict=True)]

    def _furthest(self, row: tuple[object, ...], found: Sequence[Value | None]) -> Value | None:
        """The number of a row whose rate is the furthest from the asked one.

        Perplexity is taken on the constant plan, a summary beside it under the schedule.
        """
        asked = dict(zip(self.layout.rows, row, strict=True)).get("rate")
        near = asked if isinstance(asked, float | int) else 0.0
        known = [value for value in found if value is not None]
        return max(known, key=lambda value: abs(value.rate - near), default=None)

    def _off(self, row: tuple[object, ...], found: Value | None) -> bool:
        if found is None:
            return False
        asked = dict(zip(self.layout.rows, row, strict=True)).get("rate")
        # A table that does not name the rate in its rows says it in any case.
        return not isinstance(asked, float | int) or abs(found.rate - asked) > SPENT_TOLERANCE

    def _best(
        self, column: dict[tuple[object, ...], Value | None], head: Column
    ) -> set[tuple[object, ...]]:
        """The best rows of each rate, dense excluded; equal texts share it unless all are equal."""
        if head.higher_is_better is None:
            return set()
        at_rate: dict[object, dict[tuple[object, ...], Value]] = {}
        for row, found in column.items():
            facts = dict(zip(self.layout.rows, row, strict=True))
            if found is None or not math.isfinite(found.mean) or _is_dense(facts):
                continue
            at_rate.setdefault(facts.get("rate"), {})[row] = found
        marked: set[tuple[object, ...]] = set()
        for group in at_rate.values():
            choose = max if head.higher_is_better else min
            top = _shown(choose(group.values(), key=lambda v: v.mean))
            equal = {row for row, v in group.items() if _shown(v) == top}
            marked |= equal if len(equal) < len(group) else set()
        return marked


def _is_dense(facts: Facts) -> bool:
    return facts.get("rate") == 0 or facts.get("method") == DENSE["method"]


def _key(facts: Facts, names: Sequence[str]) -> tuple[object, ...]:
    return tuple(facts.get(name) for name in names)


def _title(fact: str) -> str:
    return {"sensitivity": "score", "quantization": "precision"}.get(fact, fact)


def _head(name: str, title: str, group: str, values: object) -> Column:
    found = next((v for v in values if v is not None), None)  # type: ignore[attr-defined]
    if found is None:
        return Column(name, group, title, "")
    return Column(name, group, title, "", found.higher_is_better)  # the title names the unit


def _shown(found: Value) -> str:
    return number(found.mean, found.unit)


def _text(found: Value | None) -> str:
    if found is None:
        return MISSING
    text = _shown(found)
    error = found.deviation if found.deviation is not None else found.stderr
    if error is None or not math.isfinite(error) or "e" in text or not math.isfinite(found.mean):
        return text
    return f"{text} ± {error:.{len(text.partition('.')[2])}f}"
