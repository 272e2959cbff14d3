"""One self-contained HTML file: studies, their tables and plots, and every run behind them."""

from __future__ import annotations

import base64
import gc
import hashlib
import itertools
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.core.progress import display, progress
from flrc.errors import UserError
from flrc.results.pages.maps import Map, maps
from flrc.results.pages.order import in_order
from flrc.results.pages.readme import first_paragraph, heading
from flrc.results.pages.references import References
from flrc.results.pages.run_page import page_of_run
from flrc.results.pages.samples import replies
from flrc.results.plots.figures import Figure, figures
from flrc.results.plots.style import names
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.record import Record
from flrc.results.records.rows import Rows, indented, plain
from flrc.results.records.run_key import RunKey, key_of
from flrc.results.records.store import RunFolder, find_folders, no_records
from flrc.results.studies.files import names_of
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import RESULTS, Study, read_study
from flrc.results.tables.columns import measurement_columns, settings_groups
from flrc.results.tables.grid import MISSING
from flrc.results.tables.labels import Presets, presets
from flrc.results.tables.notes import provenance, settings
from flrc.results.tables.section import Section, runs_sections

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
README = "README.md"

Runs = list[tuple[RunFolder, Record]]


@dataclass(frozen=True)
class Link:
    """A run in a list of runs, linked to its section.

    The key has the model's label as a study's own table has it; the record's, one that no other
    model of the report has.
    """

    anchor: str
    key: RunKey
    label: str
    record: Record

    @property
    def run(self) -> str:
        """The run's id."""
        return self.key.id


@dataclass(frozen=True)
class LinkedSection:
    """A section whose cells link to the runs behind them: run -> id of its section."""

    section: Section
    anchors: Mapping[RunKey, str]

    def links(self, row: int, column: int) -> list[tuple[str, str]]:
        """Anchor and id of each run behind a cell."""
        if self.section.grid is None:
            return []
        runs = self.section.grid.rows[row].cells[column].runs
        return [(self.anchors[run], run.id) for run in runs if run in self.anchors]

    def headings(self) -> list[tuple[str, int]]:
        """The first line of the heading: each data set and the number of its columns."""
        columns = [] if self.section.grid is None else self.section.grid.columns
        return [
            (name, len(list(some))) for name, some in itertools.groupby(c.group for c in columns)
        ]


@dataclass(frozen=True)
class Placed:
    """A figure, the anchor of its image, and the earlier study that shows it (empty: this one)."""

    figure: Figure
    anchor: str
    elsewhere: str


@dataclass
class Pages:
    """The sections of the runs, by id; a record in several studies has one, and so has a picture.

    Attributes:
        runs: Folder and record.
        studies: Anchors and titles of the studies that hold the run.
        keys: What tells a run of a folder from others, its model's label as in the record.
        pictures: Address of the image -> its anchor, and the title of the study that shows it.
    """

    runs: dict[str, tuple[RunFolder, Record]] = field(default_factory=dict)
    studies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    keys: Mapping[RunFolder, RunKey] = field(default_factory=dict)
    pictures: dict[str, tuple[str, str]] = field(default_factory=dict)
    _of_run: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, folder: RunFolder, record: Record) -> str:
        """The id of the record's section; two records of one run have a section each."""
        wanted = f"run-{_safe(str(record.run['id']))}"
        same = self._of_run[wanted]
        for anchor in same:
            if canonical(self.runs[anchor][1].to_json()) == canonical(record.to_json()):
                return anchor
        anchor = next(a for a in _numbered(wanted) if a not in self.runs)
        same.append(anchor)
        self.runs[anchor] = (folder, record)
        return anchor

    def place(self, figure: Figure, title: str) -> Placed:
        """Where a figure of the study ``title`` is shown: there, unless an earlier study has it."""
        new = (f"figure-{len(self.pictures) + 1}", title)
        anchor, study = self.pictures.setdefault(figure.uri, new)
        return Placed(figure, anchor, "" if anchor == new[0] else study)


def write_report(root: Path, output: Path, references: References | None = None) -> Path:
    """Write the report of all studies below a folder (or of any folder of runs: one study).

    The file loads nothing: images, style and script are in it, and its content security policy
    forbids the rest. Without ``references``, only those of the sample data are shown.

    Raises:
        UserError: If the folder does not exist or holds no record.
    """
    with display.shown("starting"):
        display.stage("[1/3] reading the records")
        found = [(*study, find_folders(study[1])) for study in in_order(_studies(root))]
        # Distinct labels for distinct models, the same in all studies.
        records = iter(distinct_models(record for _, _, runs in found for _, record in runs))
        known = [(kind, at, [(run, next(records)) for run, _ in runs]) for kind, at, runs in found]
        if not any(runs for _, _, runs in known):
            raise no_records(root)
        gc.freeze()  # the records stay: else they are searched for garbage after every plot
        display.stage("[2/3] tables and plots")
        keys = {run: key_of(record) for _, _, runs in found for run, record in runs}
        pages, known_presets = Pages(keys=keys), presets()
        chapters = [
            {"kind": kind, **_chapter(folder, runs, pages, known_presets)}
            for kind, folder, runs in progress(known, "tables and plots", unit="study")
        ]
        display.stage("[3/3] writing the page")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(_to_html(chapters, pages, references or References()), encoding="utf-8")
    return output


def _chapter(folder: Path, runs: Runs, pages: Pages, presets: Presets) -> dict[str, Any]:
    """A study's chapter of the report; its runs are added to ``pages``."""
    name = folder.resolve().name
    text = (folder / README).read_text("utf-8-sig") if (folder / README).is_file() else ""
    anchor, title = f"study-{_safe(name)}", heading(text) or name
    records = [record for _, record in runs]
    links = [
        Link(pages.add(run, record), pages.keys[run], label, record)
        for (run, record), label in zip(runs, names(records, presets), strict=True)
    ]
    for link in links:
        where = pages.studies.setdefault(link.anchor, [])
        where += [(anchor, title)] if (anchor, title) not in where else []
    study, groups = read_study(folder), _groups(folder, runs, links)
    called = None if study is None else names_of(study, presets)
    tables = [[link.record for link in group] for group in groups.values()]
    finished = [record for record in records if record.run["status"] == "ok"]
    lines = [settings(measurement_columns(group)) for group in settings_groups(records)]
    return {
        "anchor": anchor,
        "title": title,
        "intro": first_paragraph(text),
        "parts": _parts(study, groups, presets),
        "figures": [pages.place(figure, title) for figure in figures(tables, presets, called)],
        "maps": _maps(links),
        "settings": list(dict.fromkeys(itertools.chain(*lines))),
        "provenance": provenance(finished),
        "runs": links,
    }


def _maps(links: Sequence[Link]) -> list[tuple[Link, list[Map]]]:
    """The maps of the runs that have ranks; a warning names those that cannot be drawn."""
    drawn = []
    for link in links:
        try:
            of_run = maps(link.record)
        except UserError as error:
            log.warning("not drawn: the parameters kept by %s: %s", link.run, error)
            continue
        drawn += [(link, of_run)] if of_run else []
    return drawn


def _to_html(chapters: Sequence[Mapping[str, Any]], pages: Pages, references: References) -> str:
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
    environment.filters |= {
        "plain": plain,
        "numeric_columns": _numeric_columns,
        "indented": indented,
        "quoted": lambda text: Markup(f"'{_in_single_quotes(text)}'"),
    }
    style, script = ((PAGE / name).read_text("utf-8") for name in ("report.css", "report.js"))
    replied = {anchor: replies(folder, record) for anchor, (folder, record) in pages.runs.items()}
    dense = [
        (record, replied[anchor])
        for anchor, (_, record) in pages.runs.items()
        if record.run["method"] == "dense"
    ]
    return environment.get_template("report.html").render(
        studies=chapters,
        kinds=[(kind, list(some)) for kind, some in itertools.groupby(chapters, _kind)],
        runs=[
            page_of_run(anchor, record, replied[anchor], dense, references)
            for anchor, (_, record) in pages.runs.items()
        ],
        studies_of=pages.studies,
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
    )


def _in_single_quotes(text: str) -> str:
    """What may stand between single quotes; a picture would be half as long again as usual text."""
    return text.replace("&", "&amp;").replace("'", "&#39;")


def _digest(text: str) -> str:
    """A source expression of a content security policy that allows only this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def is_numeric(text: str) -> bool:
    """Whether a cell is a number, with or without unit and spread: it is aligned to the right."""
    return re.match(r"[-+]?\d[\d.]*(e[-+]?\d+)?([kMGT]\b|%|\s|$)", text) is not None


def _numeric_columns(shown: Rows) -> list[bool]:
    """Which columns hold numbers, apart from what marks a missing one or a dense layer."""
    columns = list(zip(*shown.rows, strict=True))
    return [
        any(map(is_numeric, column))
        and all(is_numeric(text) or text in {"", MISSING, "dense", "nan", "inf"} for text in column)
        for column in columns
    ]


def _kind(chapter: Mapping[str, Any]) -> str:
    return str(chapter["kind"])


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


def _parts(
    study: Study | None, groups: Mapping[str, list[Link]], presets: Presets
) -> list[LinkedSection]:
    """The study's own tables; else one for the results and one for each other folder."""
    if study is not None:
        # A run may occur twice, with other measurements; the table shows the one in the results.
        ordered = [link for group in reversed(list(groups.values())) for link in group]
        anchors = {link.key: link.anchor for link in ordered}
        return [LinkedSection(section, anchors) for section in sections_of(study)]
    parts = []
    for name, group in groups.items():
        anchors = {key_of(link.record): link.anchor for link in group}
        title = "" if name == RESULTS else name
        sections = runs_sections([link.record for link in group], presets, title)
        parts += [LinkedSection(section, anchors) for section in sections]
    return parts


def _numbered(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3`` and so on."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
