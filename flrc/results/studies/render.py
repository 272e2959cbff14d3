"""A study's page as files: Markdown, LaTeX, CSV, plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from flrc.results.records.record import Record
from flrc.results.studies import plots
from flrc.results.studies.page import page
from flrc.results.studies.study import Study
from flrc.results.tables import latex, markdown, terminal
from flrc.results.tables.columns import measurement_columns
from flrc.results.tables.notes import provenance, settings
from flrc.results.tables.section import Section
from flrc.results.tables.value import value

BEST = "best of its column at its rate, dense excluded."
SPREAD = "±: standard error over the items of one run; over several seeds their standard deviation."
FORMATS = ("markdown", "latex", "csv", "plot")


def render(
    study: Study, output: Path, folders: dict[str, str], formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write ``table.md``, ``table.tex``, ``table.csv`` and the study's plots below ``output``.

    Args:
        study: What is rendered.
        output: Folder; created if it is not there.
        folders: Run id -> where its record is, relative to ``output``.
        formats: Some of ``markdown``, ``latex``, ``csv``, ``plot``.

    Returns:
        The files.
    """
    output.mkdir(parents=True, exist_ok=True)
    sections = page(study)
    pictures = plots.draw(study.layout.plots, study.runs, output) if "plot" in formats else []
    files = {
        "markdown": ("table.md", partial(_markdown, study, sections, folders, pictures)),
        "latex": ("table.tex", partial(_latex, study, sections)),
        "csv": ("table.csv", partial(_csv, study)),
    }
    written = []
    for name, (file, text) in files.items():
        if name in formats:
            (output / file).write_text(text(), encoding="utf-8")
            written.append(output / file)
    return written + pictures


def show(study: Study, console: Console) -> None:
    """Print the study's own table and the claims; the files hold the rest."""
    for section in page(study):
        if section.grid is None:
            continue
        console.print(Text(section.title, style="bold"))
        terminal.print_grid(section.grid, console)
        for k, text in enumerate(section.grid.footnotes, start=1):
            console.print(Text(f"[{k}] {text}", style="dim"))


def _markdown(
    study: Study, sections: Sequence[Section], folders: dict[str, str], pictures: Sequence[Path]
) -> str:
    parts: list[str] = []
    for level, section in enumerate(sections):
        parts += [f"{'#' if level == 0 else '##'} {section.title}", ""]
        parts += [line for text in section.text for line in (markdown.escape(text), "")]
        if section.grid is not None:
            parts += [*markdown.lines(section.grid), ""]
        if level == 0:
            parts += [f"- {text}" for text in _reading(section)] + [""]
            parts += [f"![{path.stem}]({path.name})" for path in pictures]
            parts += [""] if pictures else []
    parts += ["## Runs", "", *_runs(study, folders), ""]
    records = [run.record for run in study.runs]
    if records:
        parts += ["## Made with", ""]
        parts += [f"- {markdown.escape(text)}" for text in _made_with(records)]
    return "\n".join(parts).rstrip() + "\n"


def _reading(section: Section) -> list[str]:
    cells = [cell for row in section.grid.rows for cell in row.cells] if section.grid else []
    return [f"Bold: {BEST}"] * any(c.best for c in cells) + [SPREAD] * any(
        "±" in c.text for c in cells
    )


def _runs(study: Study, folders: dict[str, str]) -> list[str]:
    """One line a run: its record, commit and command."""
    lines = [
        "| run | method | rate | seed | commit | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in study.runs:
        record, run_id = run.record, str(run.record.run["id"])
        shown = f"[{run_id}]({folders[run_id]})" if run_id in folders else run_id
        git = record.meta.get("git") or {}
        commit = str(git.get("commit") or "?")[:10] + (" (modified)" if git.get("dirty") else "")
        command = str(record.meta.get("command", "?")).replace("|", "\\|").replace("`", "")
        rate = study.layout.label("rate", run.facts["rate"])
        cells = [shown, run.facts["method"], rate, record.run["seed"], commit, f"`{command}`"]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return list(dict.fromkeys(lines))  # one for all layers of a run


def _made_with(records: Sequence[Record]) -> list[str]:
    return [*settings(measurement_columns(records)), *provenance(records)]


def _latex(study: Study, sections: Sequence[Section]) -> str:
    """One ``table`` environment a section that has a table."""
    parts = ["% needs \\usepackage{booktabs,graphicx}"]
    for section in sections:
        if section.grid is None:
            continue
        parts += [r"\begin{table}", r"\centering", *latex.tabular(section.grid)]
        below = [f"[{k}] {text}" for k, text in enumerate(section.grid.footnotes, start=1)]
        below += [*section.text, *(_reading(section) if section is sections[0] else [])]
        caption = (
            section.title if section is sections[0] else f"{study.layout.place}. {section.title}"
        )
        parts.append(rf"\caption{{{latex.escape(caption)}}}")
        parts += [r"\par\raggedright\footnotesize", *(rf"{latex.escape(t)}\par" for t in below)]
        parts += [r"\end{table}", ""]
    return "\n".join(parts).rstrip() + "\n"


def numbers(study: Study) -> tuple[list[str], list[list[Any]]]:
    """Headings, and one row a number at full precision: ours, then the paper's."""
    facts = list(dict.fromkeys([*study.layout.rows, study.layout.group, "model", "method", "rate"]))
    facts = [fact for fact in facts if fact]
    head = ["source", *facts, "measurement", "value", "deviation", "stderr", "n", "spent", "runs"]
    rows: list[list[Any]] = []
    seen: set[tuple[object, ...]] = set()
    for run in study.runs:
        for name in run.measurements:
            asked = {f: run.facts[f] for f in facts if f in run.facts}
            key = (*asked.items(), name)
            found = None if key in seen else value(study.runs, asked, name)
            seen.add(key)
            if found is not None:
                of = [run.facts.get(f) for f in facts]
                spread = [found.mean, found.deviation, found.stderr, found.count, found.rate]
                rows.append(["here", *of, name, *spread, " ".join(found.runs)])
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
