"""One self-contained HTML file: studies, their tables and plots, and every run behind them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.pages.readme import first_paragraph, heading
from flrc.results.pages.references import References
from flrc.results.pages.run_page import page_of_run
from flrc.results.pages.samples import replies
from flrc.results.plots.figures import figures
from flrc.results.plots.style import names
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.record import Record
from flrc.results.records.rows import Rows, plain
from flrc.results.records.run_key import RunKey, key_of
from flrc.results.records.store import RunFolder, find_folders, no_records
from flrc.results.studies.sections import sections_of_folder
from flrc.results.studies.study import RESULTS
from flrc.results.tables.columns import measurement_columns, settings_groups
from flrc.results.tables.grid import MISSING
from flrc.results.tables.labels import Presets, presets
from flrc.results.tables.notes import provenance, settings
from flrc.results.tables.section import Section, runs_sections

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


@dataclass
class Pages:
    """The sections of the runs, by id; a record in several studies has one.

    Attributes:
        anchors: Content of the record -> id.
        runs: Folder and record.
        studies: Anchors and titles of the studies that hold the run.
        keys: What tells a run of a folder from others, its model's label as in the record.
    """

    anchors: dict[str, str] = field(default_factory=dict)
    runs: dict[str, tuple[RunFolder, Record]] = field(default_factory=dict)
    studies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    keys: Mapping[RunFolder, RunKey] = field(default_factory=dict)

    def add(self, folder: RunFolder, record: Record) -> str:
        """The id of the record's section; two records of one run have a section each."""
        content = canonical(record.to_json())
        if content not in self.anchors:
            wanted = f"run-{_safe(str(record.run['id']))}"
            same = [anchor for anchor in self.runs if re.fullmatch(rf"{wanted}(-\d+)?", anchor)]
            anchor = f"{wanted}-{len(same) + 1}" if same else wanted
            self.anchors[content] = anchor
            self.runs[anchor] = (folder, record)
        return self.anchors[content]


def write_report(root: Path, output: Path, references: References | None = None) -> Path:
    """Write the report of all studies below a folder (or of any folder of runs: one study).

    The file loads nothing: images, style and script are in it, and its content security policy
    forbids the rest. Without ``references``, only those of the sample data are shown.

    Raises:
        UserError: If the folder does not exist or holds no record.
    """
    found = [(folder, find_folders(folder)) for folder in _studies(root)]
    # Distinct labels for distinct models, the same in all studies.
    records = iter(distinct_models(record for _, runs in found for _, record in runs))
    known = [(folder, [(run, next(records)) for run, _ in runs]) for folder, runs in found]
    if not any(runs for _, runs in known):
        raise no_records(root)
    keys = {run: key_of(record) for _, runs in found for run, record in runs}
    pages, known_presets = Pages(keys=keys), presets()
    chapters = [_chapter(folder, runs, pages, known_presets) for folder, runs in known]
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
    groups = _groups(folder, runs, links)
    finished = [record for record in records if record.run["status"] == "ok"]
    lines = [settings(measurement_columns(group)) for group in settings_groups(records)]
    return {
        "anchor": anchor,
        "title": title,
        "intro": first_paragraph(text),
        "parts": _parts(folder, groups, presets),
        "figures": figures([[link.record for link in g] for g in groups.values()], presets),
        "settings": list(dict.fromkeys(itertools.chain(*lines))),
        "provenance": provenance(finished),
        "runs": links,
    }


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
    environment.filters |= {"plain": plain, "numeric_columns": _numeric_columns}
    style, script = ((PAGE / name).read_text("utf-8") for name in ("report.css", "report.js"))
    replied = {anchor: replies(folder, record) for anchor, (folder, record) in pages.runs.items()}
    dense = [
        (record, replied[anchor])
        for anchor, (_, record) in pages.runs.items()
        if record.run["method"] == "dense"
    ]
    return environment.get_template("report.html").render(
        studies=chapters,
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


def _parts(folder: Path, groups: Mapping[str, list[Link]], presets: Presets) -> list[LinkedSection]:
    """The study's own tables; else one for the results and one for each other folder."""
    if own := sections_of_folder(folder):
        # A run may occur twice, with other measurements; the table shows the one in the results.
        ordered = [link for group in reversed(list(groups.values())) for link in group]
        anchors = {link.key: link.anchor for link in ordered}
        return [LinkedSection(section, anchors) for section in own]
    parts = []
    for name, group in groups.items():
        anchors = {key_of(link.record): link.anchor for link in group}
        title = "" if name == RESULTS else name
        sections = runs_sections([link.record for link in group], presets, title)
        parts += [LinkedSection(section, anchors) for section in sections]
    return parts


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
