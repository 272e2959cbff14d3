"""``experiments/README.md``: for every claim of the paper, whether it holds here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flrc.results.studies import orders
from flrc.results.studies.study import Study, read_study
from flrc.results.tables import markdown
from flrc.results.tables.layout import TABLE

HEAD = """# Experiments

One folder for each study: `table.yaml` (layout), `expected.yaml` (the paper's numbers), `results/`
(records, small scale), and rendered from them `table.md`, `table.tex`, `table.csv` and plots.
`make table TABLE=02` computes what is missing of a study and renders it.
This page is rendered from the same records: `python -m flrc.studies claims experiments`.

Small scale: SmolLM2-135M (a chat model of 135 M parameters), float32, two cores. What the paper
found on models of 3 to 30 B parameters need not hold on it. Minutes are the sum over the stages of
the runs; what another study's run had cached counts there. Other work ran at the same time as many
of them."""
SEPARATOR = "\n\n"


def write_claims(experiments: Path) -> Path:
    """Write the page of all studies below a folder, and return its path."""
    path = experiments / "README.md"
    path.write_text(claims_page(studies(experiments)), encoding="utf-8")
    return path


def studies(experiments: Path) -> list[Study]:
    """Every study below the folder, by name."""
    folders = sorted(path.parent for path in experiments.glob(f"*/{TABLE}"))
    return [study for folder in folders if (study := read_study(folder)) is not None]


def claims_page(known: Sequence[Study]) -> str:
    """The page as Markdown."""
    parts, counted = [], Counter[str]()
    for study in known:
        page = "table.md" if study.runs else "README.md"
        lines = [f"## [{study.name}]({study.name}/{page}): {study.layout.caption}"]
        lines.append(f"{study.layout.place}. {_extent(study)}")
        expected = study.expected
        for section in orders.sections(study.layout, expected, study.runs) if expected else ():
            texts = [text for text in section.text if text != orders.READING]
            lines += ["\n".join(f"- {markdown.escape(text)}" for text in texts)] if texts else []
            if section.grid is not None:
                lines.append("\n".join(markdown.markdown_table(section.grid)))
                counted.update(row.cells[-1].text for row in section.grid.rows)
        parts.append(SEPARATOR.join(lines))
    shown = [*reversed(orders.VERDICTS), *{orders.NOT_FINITE} & counted.keys()]
    total = ", ".join(f"{counted[name]} {name}" for name in shown)
    summary = f"Orders that the paper claims, at every rate measured here: {total}."
    return SEPARATOR.join([HEAD, _together(known), summary, orders.READING, *parts]) + "\n"


def _together(known: Sequence[Study]) -> str:
    """Hours of all studies; a stage that is in the records of several counts once.

    A record has the stages of the command that wrote it last: the time of earlier ones is missing
    unless another study's record has them.
    """
    stages = {
        (str(record.run["id"]), stage["name"], float(stage["seconds"]))
        for study in known
        for record in study.records
        for stage in record.meta.get("stages", [])
    }
    hours = sum(seconds for _, _, seconds in stages) / 3600
    return (
        f"According to their records, all studies together took {hours:.1f} hours: a run that "
        "belongs to several studies counts in each of them, but here its stages count once. A "
        "record has the stages of the command that wrote it last, so some minutes are missing."
    )


def _extent(study: Study) -> str:
    if not study.runs:
        return "Not run at this scale yet."
    seconds = sum(record.seconds for record in study.records)
    runs = "1 run" if len(study.records) == 1 else f"{len(study.records)} runs"
    return f"{runs}, {max(1, round(seconds / 60))} minutes. [About it]({study.name}/README.md)."
