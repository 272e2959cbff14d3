"""A study's page as files (Markdown, LaTeX, CSV, plots) and in a terminal."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from flrc.results.plots import figures
from flrc.results.plots.formats import PICTURES, PLOT, formats_to_write
from flrc.results.plots.names import Names
from flrc.results.plots.style import save
from flrc.results.records.run_key import RunKey
from flrc.results.records.store import RECORD
from flrc.results.studies.manifest import manifest_folder
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import Study
from flrc.results.tables import latex, markdown
from flrc.results.tables.columns import measurement_columns
from flrc.results.tables.footer import BEST_MARK
from flrc.results.tables.labels import Presets, presets
from flrc.results.tables.layout import LAYER
from flrc.results.tables.notes import commit, provenance, settings
from flrc.results.tables.section import Section
from flrc.results.tables.terminal import print_grid, print_lines
from flrc.results.tables.value import TableRun, value_of

BEST = "best of its column at its rate, dense excluded."
SPREAD = "±: standard error over the items of one run; over several seeds their standard deviation."
FORMATS = ("markdown", "latex", "csv", PLOT)
PDF = ".pdf"
"""A plot's format that Markdown cannot show."""
OF_AXES = {"model", "rate", "samples", "n", *LAYER}
"""Headings of a row that a plot shows otherwise than by the name of a line."""


def write_study(
    study: Study,
    output: Path,
    folders: Mapping[RunKey, str],
    formats: Sequence[str] | None = None,
    pictures: Sequence[str] = PICTURES,
) -> list[Path]:
    """Write ``table.md``, ``table.tex``, ``table.csv`` and the study's plots below ``output``.

    ``folders`` maps runs to the paths of their records, relative to ``output``; ``formats`` are
    some of ``FORMATS``, all that can be written unless given; ``pictures`` those of a plot.
    """
    formats = formats_to_write(formats, FORMATS)
    output.mkdir(parents=True, exist_ok=True)
    sections = sections_of(study)
    plots = draw_plots(study, output, pictures) if PLOT in formats else []
    files = {
        "markdown": ("table.md", partial(_markdown, study, sections, folders, plots)),
        "latex": ("table.tex", partial(_latex, study, sections)),
        "csv": ("table.csv", partial(_csv, study)),
    }
    written = []
    for name, (file, text) in files.items():
        if name in formats:
            (output / file).write_text(text(), encoding="utf-8")
            written.append(output / file)
    return written + plots


def write_study_of_runs(study: Study, scale: str, runs: Path) -> list[Path]:
    """Write a study's files below ``<runs>/studies/<study>-<scale>``; returns them."""
    folder = manifest_folder(runs, study.name, scale)
    places = {job.key: os.path.relpath(runs / job.folder / RECORD, folder) for job in study.jobs}
    return write_study(study, folder, places)


def draw_plots(study: Study, output: Path, formats: Sequence[str] = PICTURES) -> list[Path]:
    """Draw the plots of the study's layout, as far as its records have anything to draw.

    They call methods and models by the names of the study's table.
    """
    written: list[Path] = []
    names = names_of(study, presets())
    for name in study.layout.plots if study.runs else ():
        drawn = figures.PLOTS_BY_NAME[name](study.records, names)
        written += save(drawn, output / name, formats)
    return written


def names_of(study: Study, presets: Presets) -> Names:
    """The names of the study's rows, without those of its axes: rate, samples, layer, model."""
    layout = study.layout
    printed = [*(layout.headings or layout.rows), layout.group]
    facts = [fact for fact in printed if fact and fact not in OF_AXES]

    def place(run: TableRun) -> list[tuple[int, Any]]:
        return [layout.position(fact, run.facts.get(fact)) for fact in facts]

    runs = {
        run.id: ", ".join(filter(None, (layout.label(f, run.facts.get(f)) for f in facts)))
        for run in sorted(study.runs, key=place)
    }
    return Names(presets, runs if facts else {}, layout.labels.get("model", {}))


def print_study(study: Study, console: Console) -> None:
    """Print the study's tables and how to read the first; its files hold the text around them."""
    for level, section in enumerate(sections_of(study)):
        if section.grid is not None:
            console.print(Text(section.title, style="bold"))
            print_grid(section.grid, console)
            below = section.grid.numbered_footnotes
            below = [*below, *_reading(section, BEST_MARK)] if level == 0 else below
            print_lines([*below, ""] if below else [], console)


def _markdown(
    study: Study, sections: Sequence[Section], folders: Mapping[RunKey, str], plots: Sequence[Path]
) -> str:
    parts: list[str] = []
    for level, section in enumerate(sections):
        parts += [f"{'#' if level == 0 else '##'} {section.title}", ""]
        parts += [line for text in section.text for line in (markdown.escape(text), "")]
        if section.grid is not None:
            parts += [*markdown.markdown_table(section.grid), ""]
        if level == 0:
            parts += [f"- {text}" for text in _reading(section)] + [""]
            shown = list(
                {path.stem: path for path in reversed(plots) if path.suffix != PDF}.values()
            )
            parts += [f"![{path.stem}]({path.name})" for path in reversed(shown)]
            parts += [""] if shown else []
    parts += ["## Runs", "", *_runs(study, folders), ""]
    if study.runs:
        records = [run.record for run in study.runs]
        made_with = [*settings(measurement_columns(records)), *provenance(records)]
        parts += ["## Made with", "", *(f"- {markdown.escape(text)}" for text in made_with)]
    return "\n".join(parts).rstrip() + "\n"


def _reading(section: Section, mark: str = "Bold") -> list[str]:
    if section.grid is None:
        return []
    with_spread = any("±" in cell.text for cell in section.grid.cells)
    return [f"{mark}: {BEST}"] * section.grid.has_best + [SPREAD] * with_spread + section.notes


def _runs(study: Study, folders: Mapping[RunKey, str]) -> list[str]:
    """A table with one line for each run: its record, commit and command."""
    lines = [
        "| run | method | rate | seed | commit | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in study.runs:
        record = run.record
        shown = f"[{run.id}]({folders[run.key]})" if run.key in folders else run.id
        command = str(record.meta.get("command", "?")).replace("|", "\\|").replace("`", "")
        rate = study.layout.label("rate", run.facts["rate"])
        seed = record.run["seed"]
        cells = [shown, run.facts["method"], rate, seed, commit(record, digits=10), f"`{command}`"]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return list(dict.fromkeys(lines))  # one for all layers of a run


def _latex(study: Study, sections: Sequence[Section]) -> str:
    """One ``table`` environment for each section that has a table."""
    parts = [latex.PACKAGES]
    for section in sections:
        if section.grid is None:
            continue
        own = section is sections[0]
        below = [*section.grid.numbered_footnotes, *section.text]
        below += _reading(section) if own else []
        caption = section.title if own else f"{study.layout.place}. {section.title}"
        parts += [*latex.environment(section.grid, caption, below), ""]
    return "\n".join(parts).rstrip() + "\n"


def numbers(study: Study) -> tuple[list[str], list[list[Any]]]:
    """Headings, and one row for each number at full precision: ours, then the paper's."""
    facts = list(dict.fromkeys([*study.layout.rows, study.layout.group, "model", "method", "rate"]))
    facts = [fact for fact in facts if fact]
    head = ["source", *facts, "measurement", "value", "deviation", "stderr", "n", "spent", "runs"]
    rows: list[list[Any]] = []
    seen: set[tuple[object, ...]] = set()
    for run in study.runs:
        for name in run.measurements:
            asked = {f: run.facts[f] for f in facts if f in run.facts}
            key = (*asked.items(), name)
            value = None if key in seen else value_of(study.runs, asked, name)
            seen.add(key)
            if value is not None:
                of = [run.facts.get(f) for f in facts]
                spread = [value.mean, value.deviation, value.stderr, value.count, value.rate]
                rows.append(["here", *of, name, *spread, " ".join(key.id for key in value.runs)])
    for where, values in study.expected.rows if study.expected else []:
        for name, number in values.items():
            of = [where.get(f) for f in facts]
            rows.append(["paper", *of, name, float(number), None, None, None, None, None])
    return head, rows


def _csv(study: Study) -> str:
    """The numbers; the csv module writes None as an empty cell and floats in full."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    head, rows = numbers(study)
    out.writerow(head)
    out.writerows(rows)
    return text.getvalue()
