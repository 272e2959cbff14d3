"""The page of one run: everything behind its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.pages.references import References
from flrc.results.pages.samples import Replies, Sample, dense_replies, first
from flrc.results.records.record import Record
from flrc.results.records.rows import DASH, Rows, candidates, layers, stages
from flrc.results.records.show import flatten
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.columns import dataset

COUNTED = ("rate", "parameters", "bytes", "flops_per_token", "search", "phases")
"""Results without a table of their own."""


@dataclass(frozen=True)
class Answers:
    """The first replies of a run on one data set.

    Attributes:
        dataset: Its name.
        total: Number of replies.
        settings: Settings of the generation.
        beside: Whether the dense model's replies are available.
        referenced: Whether the references of the data are available.
        samples: The first replies.
    """

    dataset: str
    total: int
    settings: str
    beside: bool
    referenced: bool
    samples: list[Sample]


@dataclass(frozen=True)
class RunPage:
    """The page of one run.

    Attributes:
        anchor: Id of its section.
        run: Id, status, method, seed and the like, as recorded.
        model: The model's label.
        rate: Requested rate.
        command: As it can be typed.
        facts: Name and value: when, where, on which commit.
        versions: Library and version.
        fingerprints: Model and data sets, and the digests of their content.
        config: The whole configuration.
        counts: Name and value of what was counted.
        measurements: Value, standard error, settings by number.
        settings: Texts of the numbered settings, from 1.
        layers: Ranks and errors.
        candidates: Schedules that were compared.
        stages: Time and memory.
        rescues: Numerical fallbacks, one line each.
        answers: Replies, by data set; empty if the folder has none.
    """

    anchor: str
    run: dict[str, Any]
    model: str
    rate: float
    command: str
    facts: list[tuple[str, str]]
    versions: str
    fingerprints: list[tuple[str, str]]
    config: dict[str, Any]
    counts: list[tuple[str, str]]
    measurements: Rows
    settings: list[str]
    layers: Rows
    candidates: Rows
    stages: Rows
    rescues: list[str]
    answers: list[Answers]


def page_of_run(
    anchor: str,
    record: Record,
    replies: Sequence[Replies],
    dense: Sequence[tuple[Record, list[Replies]]],
    references: References,
) -> RunPage:
    """The page of a record.

    Args:
        anchor: Id of the section.
        record: The run.
        replies: What it generated, see :func:`flrc.results.pages.samples.replies`.
        dense: The available dense runs with their replies.
        references: Where reference summaries are looked up.
    """
    run, results, meta = record.run, record.results, record.meta
    measurements, settings = _measurements(record)
    git = meta.get("git") or {}
    facts = {
        "commit": f"{git.get('commit') or DASH}{' (modified)' if git.get('dirty') else ''}",
        **{key: meta.get(key) for key in ("started", "device", "processor", "dtype", "threads")},
        "seed": run.get("seed"),
    }
    versions = meta.get("versions") or {}
    return RunPage(
        anchor=anchor,
        run=run,
        model=model_name(record),
        rate=requested_rate(record),
        command=_command(str(meta.get("command") or "")),
        facts=[(key, str(value)) for key, value in facts.items() if value is not None],
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        fingerprints=_fingerprints(record),
        config=run.get("config", {}),
        counts=[
            (key, plain(value))
            for name in COUNTED
            for key, value in flatten({name: results.get(name)}).items()
            if value not in (None, [], {})
        ],
        measurements=measurements,
        settings=settings,
        layers=layers(results.get("layers", [])),
        candidates=candidates(results.get("schedule_search") or {}),
        stages=stages(meta.get("stages", [])),
        rescues=[f"{row['target']}: {row['what']}" for row in results.get("rescues", [])],
        answers=[
            _answers(mine, record, dense, references) for mine in replies if run["status"] == "ok"
        ],
    )


def _answers(
    mine: Replies,
    record: Record,
    dense: Sequence[tuple[Record, list[Replies]]],
    references: References,
) -> Answers:
    is_dense = record.run["method"] == "dense"
    beside = None if is_dense else dense_replies(mine, record, dense)
    settings = ", ".join(f"{key}={plain(value)}" for key, value in mine.settings.items())
    people = references.of(mine.dataset, mine.settings)
    return Answers(
        dataset=mine.dataset,
        total=len(mine.items),
        settings=settings,
        beside=is_dense or beside is not None,
        referenced=bool(people),
        samples=first(mine, beside, people),
    )


def _command(recorded: str) -> str:
    """Records name the script without the interpreter."""
    return f"python {recorded}" if recorded.startswith("run.py") else recorded


def _fingerprints(record: Record) -> list[tuple[str, str]]:
    digests = {"model": record.meta.get("model_revision")}
    digests |= record.meta.get("data_revisions") or {}
    for m in record.measurements:
        if m.settings.get("data"):
            digests.setdefault(dataset(m.name), m.settings["data"])
    return [(name, plain(value)) for name, value in digests.items() if value]


def _measurements(record: Record) -> tuple[Rows, list[str]]:
    numbers: dict[str, int] = {}
    texts, rows = [], []
    for m in record.measurements:
        key = canonical(m.settings)
        if key not in numbers:
            numbers[key] = len(numbers) + 1
            flat = flatten(m.settings)
            texts.append(", ".join(f"{name}={plain(value)}" for name, value in flat.items()))
        error = DASH if m.stderr is None else f"{m.stderr:.3g}"
        values = [f"{m.value:.6g}", error, m.unit, str(m.count), f"{m.rate:.4f}"]
        rows.append([m.name, *values, str(numbers[key])])
    titles = ["measurement", "value", "± stderr", "unit", "n", "rate", "settings"]
    return Rows(titles, rows), texts


def plain(value: Any) -> str:
    """A value of a configuration as text: strings as they are, anything else as JSON."""
    return value if isinstance(value, str) else canonical(value)
