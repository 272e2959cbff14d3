"""A study's page: its table in the paper's layout, the paper's own, and how the two compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flrc.results.studies import orders
from flrc.results.studies.expected import Expected
from flrc.results.studies.generated_text import (
    CONSTANT,
    COPY,
    agreement_columns,
    chose_constant,
    reading,
    with_copies,
)
from flrc.results.studies.manifest import Job
from flrc.results.studies.study import Study
from flrc.results.tables.columns import Column
from flrc.results.tables.facts import Facts, matches
from flrc.results.tables.notes import healing, healing_warnings
from flrc.results.tables.section import Section
from flrc.results.tables.table import Find, Table
from flrc.results.tables.value import Value, value_of


def sections_of(study: Study) -> list[Section]:
    """Our table, what was measured beside it, the paper's, the difference if any, the claims."""
    layout, expected = study.layout, study.expected
    columns = [Column(name, "", title, "") for name, title in layout.columns.items()]
    planned = [layout.read(job.facts) for job in study.jobs]
    # A job has no facts of the rows of a table with a row for every layer.
    known = [facts for facts in planned if facts.keys() & set(layout.rows)]
    known += [run.facts for run in study.runs]
    ours = Table(layout, known, lambda facts, name: value_of(study.runs, facts, name))
    agreement = agreement_columns(layout, study.runs)
    grid = ours.grid(
        [*columns, *agreement],
        spent=not layout.of_layers,
        keep_empty=True,
        footnote=_footnotes(study),
    )
    grid = with_copies(grid, ours, study.runs)
    title = f"{layout.place}: {layout.caption}"
    text = [_models(ours, "measured here")]
    notes = [
        *reading(layout, study.runs),
        *healing(study.records),
        *healing_warnings(study.records),
    ]
    parts = [Section(title, text, grid, notes)]
    if beside := _beside(study, agreement):
        parts.append(Section("Measured beside it", [], ours.grid(beside)))
    if expected is not None and expected.rows:
        papers = Table(layout, [facts for facts, _ in expected.rows], _reported(study, expected))
        text = [_models(papers, f"as reported in {expected.source}, {expected.place}")]
        parts.append(Section("The paper", text, papers.grid(columns)))
        if {facts.get("model") for facts in known} & {f.get("model") for f in papers.known} - {
            None
        }:
            difference = Table(layout, known, _difference(ours.find, papers.find))
            parts.append(Section("Ours minus the paper's", [], difference.grid(columns)))
    if expected is not None:
        parts += orders.sections(layout, expected, study.runs)
    return parts


def _models(table: Table, origin: str) -> str:
    models = [facts["model"] for facts in table.known if "model" in facts]
    names = dict.fromkeys(table.layout.label("model", model) for model in models)
    return f"{', '.join(names)}, {origin}." if names else f"{origin[0].upper()}{origin[1:]}."


def _beside(study: Study, agreement: Sequence[Column]) -> list[Column]:
    """Measurements of the same runs that the first table has not."""
    hidden = ("/rate", "/rate_per_token", *(f"/{COPY}" for _ in agreement))
    derived = ("targets/", "allocation/", "model/", "healing/")
    shown = {*study.layout.columns, *(column.name for column in agreement)}
    names = dict.fromkeys(name for run in study.runs for name in run.measurements)
    return [
        Column(name, "", name.replace("/", " "), "")
        for name in names
        if name not in shown and not name.endswith(hidden) and not name.startswith(derived)
    ]


def _reported(study: Study, expected: Expected) -> Find:
    """Finds the paper's number of a cell; unit and direction are those of ours."""
    known = {name: m for run in study.runs for name, m in run.measurements.items()}

    def find(asked: Facts, name: str) -> Value | None:
        for facts, values in expected.rows:
            if name in values and all(facts.get(fact) == v for fact, v in asked.items()):
                ours = known.get(name)
                unit = ours.unit if ours else ""
                better = ours.higher_is_better if ours else None
                rate = float(facts.get("rate") or 0.0)
                return Value(values[name], None, None, 1, rate, [], unit, better)
        return None

    return find


def _difference(ours: Find, papers: Find) -> Find:
    """Finds ours minus the paper's."""

    def find(asked: Facts, name: str) -> Value | None:
        mine, theirs = ours(asked, name), papers(asked, name)
        if mine is None or theirs is None:
            return None
        change = mine.mean - theirs.mean
        return Value(change, None, mine.error, 1, mine.rate, mine.runs, mine.unit, None)

    return find


def _footnotes(study: Study) -> Callable[[Facts, str], str]:
    """The footnote of a cell of which some job, perhaps of one seed only, has not run: commands.

    In the first column, also that the search for a schedule chose the constant one.
    """
    measured = {run.key: run.measurements.keys() for run in study.runs}

    def is_missing(job: Job, name: str) -> bool:
        has = measured.get(job.key)
        return has is None or (
            name not in has and name in map(study.layout.read_name, job.measurements)
        )

    first = next(iter(study.layout.columns))

    def footnote(asked: Facts, name: str) -> str:
        runs = [run.record for run in study.runs if matches(run.facts, asked)]
        searched = [record for record in runs if record.results.get("schedule_search")]
        constant = sum(map(chose_constant, searched)) if name == first else 0
        of_seeds = f" ({constant} of {len(searched)} seeds)" if constant < len(searched) else ""
        notes = [f"{CONSTANT}{of_seeds}"] if constant else []
        commands = [
            job.command
            for job in study.jobs
            if matches(study.layout.read(job.facts), asked) and is_missing(job, name)
        ]
        notes += [f"not measured yet: {'; '.join(commands)}"] if commands else []
        return "; ".join(notes)

    return footnote
