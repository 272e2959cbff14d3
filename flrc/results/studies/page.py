"""A study's page: its table in the paper's layout, the paper's own, and how the two compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flrc.results.studies import orders
from flrc.results.studies.manifest import Job
from flrc.results.studies.study import Study, read
from flrc.results.tables.block import Block, Find
from flrc.results.tables.facts import Facts, matches
from flrc.results.tables.layout import Expected
from flrc.results.tables.section import Section
from flrc.results.tables.value import Value, value


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
                spent=not layout.of_layers,
                keep_empty=True,
                missing=_missing(study),
            ),
        )
    ]
    beside = _beside(study)
    if beside:
        parts.append(Section("Measured beside it", [], *ours.grid(beside)))
    if expected is not None and expected.rows:
        papers = Block(layout, [facts for facts, _ in expected.rows], _lookup(study, expected))
        text = [_models(papers, f"as reported in {expected.source}, {expected.place}")]
        columns = list(layout.columns.items())
        parts.append(Section("The paper", text, papers.grid(columns)[0]))
        parts += _difference(study, ours, papers)
    if expected is not None:
        parts += orders.sections(study.layout, expected, study.runs)
    return parts


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
    derived = ("targets/", "allocation/", "model/flops")
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
    grid, runs = block.grid(list(study.layout.columns.items()))
    return [Section("Ours minus the paper's", [], grid, runs)]


def _missing(study: Study) -> Callable[[Facts, str], str]:
    """What to type for a cell of which not every job is done; a seed may be missing of several."""
    measured = {str(run.record.run["id"]): run.measurements.keys() for run in study.runs}

    def waits(job: Job, name: str) -> bool:
        has = measured.get(job.run)
        return has is None or (
            name not in has and name in map(study.layout.read_name, job.measurements)
        )

    def note(asked: Facts, name: str) -> str:
        commands = [
            job.command
            for job in study.jobs
            if matches(study.layout.read(job.facts), asked) and waits(job, name)
        ]
        return f"not measured yet: {'; '.join(commands)}" if commands else ""

    return note
