"""One self-contained HTML file: studies, their tables and plots, and every run behind them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from flrc.core.jsonfile import canonical
from flrc.errors import UserError
from flrc.results.pages import report
from flrc.results.pages.readme import first_paragraph, heading
from flrc.results.pages.references import References
from flrc.results.pages.run_page import RunPage, page, plain
from flrc.results.pages.samples import Replies, replies
from flrc.results.plots.figures import Figure, figures
from flrc.results.plots.style import names
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.record import Record
from flrc.results.records.rows import Rows
from flrc.results.records.store import RunFolder, find_folders
from flrc.results.studies.page import sections
from flrc.results.studies.study import RESULTS
from flrc.results.tables.columns import measurement_columns, settings_groups
from flrc.results.tables.grid import MISSING
from flrc.results.tables.labels import Presets
from flrc.results.tables.notes import provenance, settings
from flrc.results.tables.section import Section, from_records

PAGE = Path(__file__).parent / "page"
README = "README.md"

Runs = list[tuple[RunFolder, Record]]


@dataclass(frozen=True)
class Link:
    """A run as a list names it."""

    anchor: str
    run: str
    label: str
    record: Record


@dataclass(frozen=True)
class Part:
    """A section, and where the runs behind its cells are.

    Attributes:
        section: The table and its text.
        anchors: Run id -> id of its section on the page.
    """

    section: Section
    anchors: Mapping[str, str]

    def links(self, row: int, column: int) -> list[tuple[str, str]]:
        """Anchor and id of each run behind a cell that says something."""
        grid, runs = self.section.grid, self.section.runs
        if grid is None or runs is None or grid.rows[row].cells[column].text == MISSING:
            return []
        return [(self.anchors[run], run) for run in runs[row][column] if run in self.anchors]

    def headings(self) -> list[tuple[str, int]]:
        """The first line of the heading: each data set, and over how many columns it stands."""
        columns = [] if self.section.grid is None else self.section.grid.columns
        return [(name, len(list(some))) for name, some in groupby(c.group for c in columns)]


@dataclass
class Study:
    """A folder of runs.

    Attributes:
        name: Of the folder.
        anchor: Id of its section.
        title: Of its README, else its name.
        intro: First paragraph of its README; empty where there is none.
        parts: Its tables.
        figures: Its plots.
        settings: What its numbers were measured under.
        provenance: Versions, commits, devices.
        runs: All its runs, failed ones too.
    """

    name: str
    anchor: str
    title: str
    intro: str
    parts: list[Part]
    figures: list[Figure]
    settings: list[str]
    provenance: list[str]
    runs: list[Link]


@dataclass
class Pages:
    """The run pages; a record that several studies hold has one.

    Attributes:
        anchors: Content of the record -> id of its section.
        runs: Id of the section -> folder, record.
        studies: Id of the section -> anchors and titles of the studies that hold the run.
    """

    anchors: dict[str, str] = field(default_factory=dict)
    runs: dict[str, tuple[RunFolder, Record]] = field(default_factory=dict)
    studies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, folder: RunFolder, record: Record) -> str:
        """The id of the run's section; other measurements of one run are a section of their own."""
        content = canonical(record.to_json())
        if content not in self.anchors:
            wanted = f"run-{_safe(str(record.run['id']))}"
            same = [anchor for anchor in self.runs if re.fullmatch(rf"{wanted}(-\d+)?", anchor)]
            anchor = f"{wanted}-{len(same) + 1}" if same else wanted
            self.anchors[content] = anchor
            self.runs[anchor] = (folder, record)
        return self.anchors[content]


def render(root: Path, output: Path, references: References | None = None) -> Path:
    """Write the report of all studies below a folder.

    Args:
        root: Folder whose sub-folders hold ``results``, or any folder of runs: one study.
        output: The file; its folder is created. It loads nothing: images, style and script are in
            it, and its content security policy forbids the rest.
        references: Where people's summaries are looked up; None for the sample data alone.

    Returns:
        ``output``.

    Raises:
        UserError: If the folder does not exist or holds no record.
    """
    found = _apart([(folder, find_folders(folder)) for folder in _studies(root)])
    if not any(runs for _, runs in found):
        raise UserError(
            "no record in this folder",
            given=str(root),
            allowed="a folder that holds record.json files, at any depth",
        )
    pages, presets = Pages(), report.presets()
    studies = [study(folder, runs, pages, presets) for folder, runs in found]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(to_html(studies, pages, references or References()), encoding="utf-8")
    return output


def _apart(found: list[tuple[Path, Runs]]) -> list[tuple[Path, Runs]]:
    """The studies, with models that share a label told apart in all of them alike."""
    records = iter(distinct_models(record for _, runs in found for _, record in runs))
    return [(folder, [(run, next(records)) for run, _ in runs]) for folder, runs in found]


def study(folder: Path, runs: Runs, pages: Pages, presets: Presets) -> Study:
    """A study's part of the report; its runs are added to ``pages``."""
    name = folder.resolve().name
    text = (folder / README).read_text("utf-8-sig") if (folder / README).is_file() else ""
    title, intro = heading(text) or name, first_paragraph(text)
    anchor = f"study-{_safe(name)}"
    records = [record for _, record in runs]
    links = [
        Link(pages.add(run, record), str(record.run["id"]), label, record)
        for (run, record), label in zip(runs, names(records, presets), strict=True)
    ]
    for link in links:
        where = pages.studies.setdefault(link.anchor, [])
        where += [(anchor, title)] if (anchor, title) not in where else []
    groups = _groups(folder, runs, links)
    finished = [record for record in records if record.run["status"] == "ok"]
    lines: list[str] = []
    for group in settings_groups(finished):
        lines += settings(measurement_columns(group))
    return Study(
        name=name,
        anchor=anchor,
        title=title,
        intro=intro,
        parts=_parts(folder, groups, presets),
        figures=figures([[link.record for link in g] for g in groups.values()], presets),
        settings=list(dict.fromkeys(lines)),
        provenance=provenance(finished) if finished else [],
        runs=links,
    )


def to_html(studies: Sequence[Study], pages: Pages, references: References) -> str:
    """Fill the template; everything but our own style and script is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["numeric"] = is_numeric
    environment.filters |= {"plain": plain, "numeric_columns": numeric_columns}
    style, script = ((PAGE / name).read_text("utf-8") for name in ("report.css", "report.js"))
    replied: dict[str, list[Replies]] = {
        anchor: replies(folder, record) for anchor, (folder, record) in pages.runs.items()
    }
    dense = [
        (record, replied[anchor])
        for anchor, (_, record) in pages.runs.items()
        if record.run["method"] == "dense"
    ]
    run_pages: list[RunPage] = [
        page(anchor, record, replied[anchor], dense, references)
        for anchor, (_, record) in pages.runs.items()
    ]
    return environment.get_template("report.html").render(
        studies=studies,
        runs=run_pages,
        studies_of=pages.studies,
        style=Markup(style),
        script=Markup(script),
        style_hash=digest(style),
        script_hash=digest(script),
    )


def digest(text: str) -> str:
    """A source expression of a content security policy: this text and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def is_numeric(text: str) -> bool:
    """Whether a cell stands on the right: a number, with or without unit and spread."""
    return re.match(r"[-+]?\d[\d.]*(e[-+]?\d+)?([kMGT]\b|%|\s|$)", text) is not None


def numeric_columns(shown: Rows) -> list[bool]:
    """Which columns hold numbers, beside what stands for a missing one or a dense layer."""
    columns = list(zip(*shown.rows, strict=True))
    return [
        any(map(is_numeric, column))
        and all(is_numeric(text) or text in {"", MISSING, "dense", "nan", "inf"} for text in column)
        for column in columns
    ]


def _studies(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    below = sorted(path for path in root.iterdir() if (path / RESULTS).is_dir())
    return below or [root]


def _groups(folder: Path, runs: Runs, links: Sequence[Link]) -> dict[str, list[Link]]:
    """The runs of the results, then those of each other folder of the study."""
    has_results = (folder / RESULTS).is_dir()
    groups: dict[str, list[Link]] = {RESULTS: []}
    for (run, _), link in zip(runs, links, strict=True):
        inside = run.path.relative_to(folder).parts
        groups.setdefault(inside[0] if has_results and inside else RESULTS, []).append(link)
    return groups


def _parts(folder: Path, groups: Mapping[str, list[Link]], presets: Presets) -> list[Part]:
    """The study's own tables; without them one for the results and one for each other folder."""
    own = sections(folder)
    if own:
        # An id may be there twice, with other measurements; the results are what is laid out.
        ordered = [link for group in reversed(list(groups.values())) for link in group]
        anchors = {link.run: link.anchor for link in ordered}
        return [Part(section, anchors) for section in own]
    parts = []
    for name, group in groups.items():
        anchors = {link.run: link.anchor for link in group}
        title = "" if name == RESULTS else name
        found = from_records([link.record for link in group], presets, title)
        parts += [Part(section, anchors) for section in found]
    return parts


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
