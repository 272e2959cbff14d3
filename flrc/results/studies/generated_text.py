"""What stands beside the scores of generated text: agreement, a copy of the source, the schedule.

A score of text says little by itself: a copy of the source may score higher than the dense model,
and a schedule may store more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flrc.results.records.record import Record
from flrc.results.tables.columns import Column, dataset
from flrc.results.tables.grid import MISSING, Cell, Grid, Row, shown_value
from flrc.results.tables.layout import Layout
from flrc.results.tables.table import Table
from flrc.results.tables.value import TableRun, value_of

SCORES = ("rougeL", "bertscore_f1")
AGREEMENT, COPY = "dense_agreement", "copy_rougeL"
SOURCE = "Copy of the source"
"""Label of the row of what a copy of each source's beginning scores."""

CONSTANT = "the search chose the constant schedule: the model is that of the method without one"
DECODING = (
    "Progressive decoding buys fewer bytes read a step as a reply grows. It buys no storage: what "
    "every phase needs is stored, which may be more than the dense model (see stored, bytes)."
)
AGREES = "Agreement: tokens equal to the dense model's reply, in per cent of the longer one."


def agreement_columns(layout: Layout, runs: Sequence[TableRun]) -> list[Column]:
    """Agreement with the dense model's replies, for each data set whose text is scored."""
    measured = {name for run in runs for name in run.measurements}
    scored = {name: title for name, title in layout.columns.items() if _metric(name) in SCORES}
    by_dataset = {dataset(name): title for name, title in reversed(scored.items())}
    return [
        Column(f"{of}/{AGREEMENT}", "", f"{title.rpartition(' ')[0]} agreement".strip(), "")
        for of, title in reversed(by_dataset.items())
        if f"{of}/{AGREEMENT}" in measured
    ]


def with_copies(grid: Grid, table: Table, runs: Sequence[TableRun]) -> Grid:
    """The grid with a row of what copying the source scores, below the dense model's.

    It is the same for every run of one model on the same items; ROUGE-L is the only score of it
    that is known.
    """
    layout, dense = table.layout, len(table.dense_rows)
    labels = {column.group for column in grid.columns}
    by_label = {
        label: [
            run for run in runs if layout.label(layout.group, run.facts.get(layout.group)) == label
        ]
        for label in labels
    }
    one = len(table.groups) < 2
    cells = [
        _copied(column, runs if one else by_label[column.group], layout) for column in grid.columns
    ]
    if all(cell.text == MISSING for cell in cells):
        return grid
    titled = "method" if "method" in grid.label_titles else grid.label_titles[-1]
    row = Row([SOURCE if title == titled else "" for title in grid.label_titles], cells)
    return replace(grid, rows=[*grid.rows[:dense], row, *grid.rows[dense:]])


def _copied(column: Column, runs: Sequence[TableRun], layout: Layout) -> Cell:
    if _metric(column.name) != SCORES[0]:
        return Cell(MISSING)
    name = f"{dataset(column.name)}/{COPY}"
    values = (value_of([run], {}, name) for run in runs)
    value = next((value for value in values if value is not None), None)
    if value is None:
        return Cell(MISSING)
    return Cell(shown_value(value, item_errors=layout.item_errors), runs=value.runs)


def chose_constant(record: Record) -> bool:
    """Whether the schedule was searched, and the constant one was best."""
    searched = bool(record.results.get("schedule_search", {}).get("candidates"))
    return searched and len(record.results.get("phases", [])) == 1


def reading(layout: Layout, runs: Sequence[TableRun]) -> list[str]:
    """How to read the table, if it has scores of text."""
    if not agreement_columns(layout, runs):
        return []
    phased = any(len(run.record.results.get("phases", [])) > 1 for run in runs)
    return [AGREES, *[DECODING] * phased]


def _metric(name: str) -> str:
    return name.rpartition("/")[2]
