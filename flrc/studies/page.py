"""A study's page: its table in the paper's layout, the paper's own, and how the two compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flrc.records.record import Record
from flrc.records.store import RunFolder, find_folders
from flrc.reporting.columns import Column
from flrc.reporting.grid import MISSING, Cell, Grid, Row, number
from flrc.reporting.section import Section
from flrc.studies import manifest, orders
from flrc.studies.cells import LAYER, Run, Value, runs_of, value
from flrc.studies.facts import DENSE, Facts, matches
from flrc.studies.layout import Expected, Layout, read_expected, read_layout
from flrc.studies.manifest import Job

RESULTS = "results"
STORED = Column("targets/stored", "", "stored / dense", "")
SPENT = "rate spent"
SPENT_TOLERANCE = 1e-3
"""A number measured further than this from the asked rate gets its rate printed beside it."""


@dataclass(frozen=True)
class Study:
    """Everything a page is made of.

    Attributes:
        name: The study's folder.
        layout: How its table is laid out.
        expected: The paper's numbers, if it is the paper's.
        runs: What has been run.
        jobs: What belongs to it, run or not.
    """

    name: str
    layout: Layout
    expected: Expected | None
    runs: list[Run]
    jobs: list[Job]


def results_of(folder: Path, scale: str) -> Path:
    """Where a study's records and ``jobs.json`` are kept."""
    return folder / RESULTS if scale == "small" else folder / scale / RESULTS


def read(folder: Path, scale: str = "small") -> Study | None:
    """The study of ``experiments/<study>``; None if the folder has no ``table.yaml``.

    Args:
        folder: The study's folder.
        scale: Which of its results.

    Raises:
        UserError: If a file is malformed, or a column would mix settings or versions.
    """
    results = results_of(folder, scale)
    found = find_folders(results) if results.is_dir() else []
    folders = {str(record.run["id"]): at for at, record in found}
    return study(folder, [record for _, record in found], manifest.read(results), folders)


def study(
    folder: Path,
    records: Sequence[Record],
    jobs: Sequence[Job],
    folders: Mapping[str, RunFolder] | None = None,
) -> Study | None:
    """The study of these records; None if the folder has no ``table.yaml``.

    Args:
        folder: ``experiments/<study>``.
        records: Records of its runs.
        jobs: What belongs to it.
        folders: Run id -> where its items are.
    """
    layout = read_layout(folder)
    if layout is None:
        return None
    return Study(
        folder.name,
        layout,
        read_expected(folder),
        runs_of(records, layout, jobs, folders),
        list(jobs),
    )


def sections(folder: Path) -> list[Section]:
    """The page of ``experiments/<study>``; nothing if the folder has no ``table.yaml``."""
    found = read(folder)
    return [] if found is None else page(found)


def page(study: Study) -> list[Section]:
    """Ours, what stands beside it, the paper's, the difference where there is one, the claims."""
    layout, expected = study.layout, study.expected
    planned = [layout.read(job.facts) for job in study.jobs]
    # A job says nothing of the rows of a table that has one for every layer.
    known = [facts for facts in planned if facts.keys() & set(layout.rows)]
    known += [run.facts for run in study.runs]
    ours = Block(layout, known, lambda facts, name: value(study.runs, facts, name))
    parts = [
        Section(
            f"{layout.place}: {layout.caption}",
            [_models(ours, "measured here")],
            *ours.grid(
                list(layout.columns.items()),
                spent=not LAYER.issubset(layout.rows),
                missing=_missing(study),
            ),
        )
    ]
    beside = _beside(study)
    if beside:
        parts.append(Section("Measured beside it", [], *ours.grid(beside, spent=False)))
    if expected is not None and expected.rows:
        papers = Block(layout, [facts for facts, _ in expected.rows], _lookup(study, expected))
        text = [_models(papers, f"as reported in {expected.source}, {expected.place}")]
        columns = list(layout.columns.items())
        parts.append(Section("The paper", text, papers.grid(columns, spent=False)[0]))
        parts += _difference(study, ours, papers)
    if expected is not None:
        parts += orders.sections(study.layout, expected, study.runs)
    return parts


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

    def exists(self, row: tuple[object, ...], group: tuple[object, ...]) -> bool:
        """Whether any known facts fall into this cell."""
        return any(_key(f, self.layout.rows) == row and matches(f, self.asked(row, group))
                   for f in self.known)  # fmt: skip

    def grid(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        spent: bool,
        missing: Callable[[Facts, str], str] | None = None,
    ) -> tuple[Grid, list[list[list[str]]]]:
        """The table, and the ids behind each cell.

        Args:
            columns: Measurement names and titles.
            spent: Whether to add the stored share, and the spent rate where it is not the asked.
            missing: The footnote of a cell that could be measured and is not.
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
                if all(v is None for v in column.values()) and missing is None:
                    continue
                heads.append(_head(name, title, label, column.values()))
                best = self._best(column, heads[-1])
                for row in self.rows:
                    found, note = column[row], 0
                    if found is None and missing is not None and self.exists(row, group):
                        text = missing(self.asked(row, group), name)
                        note = footnotes.setdefault(text, len(footnotes) + 1) if text else 0
                    cells[row].append(Cell(_text(found), row in best, note))
                    runs[row].append([] if found is None else found.runs)
            if not spent:
                continue
            first = {
                row: next((v for n, _ in columns if (v := values[row, group, n])), None)
                for row in self.rows
            }
            if any(self._off(row, found) for row, found in first.items()):
                heads.append(Column("rate", label, SPENT, ""))
                for row, found in first.items():
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


def _models(block: Block, what: str) -> str:
    names = [
        block.layout.label("model", facts["model"]) for facts in block.known if "model" in facts
    ]
    return (
        f"{', '.join(dict.fromkeys(names))}, {what}." if names else f"{what[0].upper()}{what[1:]}."
    )


def _beside(study: Study) -> list[tuple[str, str]]:
    """Measurements of the same runs for which the paper has no column."""
    hidden = ("/rate", "/rate_per_token")
    derived = ("targets/", "allocation/")
    names = dict.fromkeys(name for run in study.runs for name in run.measurements)
    return [
        (name, name.replace("/", " "))
        for name in names
        if name not in study.layout.columns
        and not name.endswith(hidden)
        and not name.startswith(derived)
    ]


def _lookup(study: Study, expected: Expected) -> Find:
    """The paper's number of a cell, with the unit and direction of ours."""
    known = {name: m for run in study.runs for name, m in run.measurements.items()}

    def find(asked: Facts, name: str) -> Value | None:
        for facts, values in expected.rows:
            same = all(facts.get(fact) == what for fact, what in asked.items())
            if same and name in values:
                ours = known.get(name)
                unit = ours.unit if ours else ""
                better = ours.higher_is_better if ours else None
                rate = float(facts.get("rate") or 0.0)
                return Value(values[name], None, None, 1, rate, [], unit, better)
        return None

    return find


def _difference(study: Study, ours: Block, papers: Block) -> list[Section]:
    """Ours minus the paper's, where the model is the paper's."""
    shared = {facts.get("model") for facts in ours.known} & {f.get("model") for f in papers.known}
    if not shared - {None}:
        return []

    def find(asked: Facts, name: str) -> Value | None:
        mine, theirs = ours.find(asked, name), papers.find(asked, name)
        if mine is None or theirs is None:
            return None
        change = mine.mean - theirs.mean
        return Value(change, None, mine.error, 1, mine.rate, mine.runs, mine.unit, None)

    block = Block(study.layout, ours.known, find)
    grid, runs = block.grid(list(study.layout.columns.items()), spent=False)
    return [Section("Ours minus the paper's", [], grid, runs)]


def _missing(study: Study) -> Callable[[Facts, str], str]:
    """What to type for a cell that is not there."""

    def note(asked: Facts, name: str) -> str:
        for job in study.jobs:
            if matches(study.layout.read(job.facts), asked):
                done = job.run in {str(run.record.run["id"]) for run in study.runs}
                return "" if done and name not in job.measurements else job.command
        return ""

    return note
