"""``python scripts/front_page.py README.md experiments docs/perplexity.svg``: the front page.

It fills the tables in, and draws the plot.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flrc.errors import UserError
from flrc.results.plots import pareto_plot
from flrc.results.plots.style import save
from flrc.results.studies.files import names_of
from flrc.results.studies.study import Study, read_study
from flrc.results.tables import markdown
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import MISSING, Cell, Grid, Row, shown_mean
from flrc.results.tables.labels import presets
from flrc.results.tables.value import value_of

MARK = re.compile(
    r"(?P<begin><!-- table of (?P<study>\w+): (?P<metrics>[^>]+?) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def fill(page: str, experiments: Path) -> str:
    """The page with its tables filled in, between ``<!-- table of STUDY: METRIC, ... -->`` marks.

    Args:
        page: Its text.
        experiments: Folder of the studies.

    Raises:
        UserError: If there is no mark, or the study does not have what it names.
    """
    if MARK.search(page) is None:
        raise UserError(
            "the page has no place for a table",
            given="no mark",
            allowed="<!-- table of table02: wikitext2/perplexity --> ... <!-- end -->",
        )

    def filled(mark: re.Match[str]) -> str:
        study = read_study(experiments / mark["study"])
        metrics = [name.strip() for name in mark["metrics"].split(",")]
        if study is None or not set(metrics) <= set(study.layout.columns):
            raise UserError(
                "the page asks for a table that no study has",
                given=mark["begin"].strip(),
                allowed=list(study.layout.columns) if study else "a study with a table.yaml",
            )
        return "\n".join([mark["begin"], *table(study, metrics), "", mark["end"]])

    return MARK.sub(filled, page)


CALLED = {"FLRA": "FLRC", "KFAC": "KFAC (ours)", "KFAC-Skip": "KFAC-Skip (ours)"}
"""Name in the table of the study ``ours`` -> on the front page, as in Table 2: perplexity is
measured on FLRC's constant plan, which is FLRA."""


def plot(experiments: Path, path: Path) -> None:
    """Draw perplexity against the share of parameters removed, from the study ``ours``."""
    study = read_study(experiments / "ours")
    assert study is not None, "experiments/ours has a table.yaml"
    names = names_of(study, presets())
    runs = {run: CALLED.get(name, name) for run, name in names.runs.items()}
    drawn = pareto_plot.draw(study.records, replace(names, runs=runs), ["removed"])
    save(drawn, path, [path.suffix.removeprefix(".")])


def table(study: Study, metrics: Sequence[str]) -> list[str]:
    """Methods across, metrics and rates down; the best of a row is bold."""
    known = {str(run.facts["method"]) for run in study.runs}
    methods = [name for name in study.layout.labels["method"] if name in known]
    rates = sorted({float(run.facts["rate"]) for run in study.runs} - {0.0})
    columns = [Column(m, "", study.layout.label("method", m), "") for m in methods]
    rows = []
    for metric in metrics:
        for rate in rates:
            values = [
                value_of(study.runs, {"method": m, "rate": 0.0 if m == "dense" else rate}, metric)
                for m in methods
            ]
            ranked = [v.mean for m, v in zip(methods, values, strict=True) if v and m != "dense"]
            if not ranked:
                continue
            better = next(v.higher_is_better for v in values if v)
            top = (max if better else min)(ranked)
            cells = [
                Cell(shown_mean(v), v.mean == top and m != "dense") if v else Cell(MISSING)
                for m, v in zip(methods, values, strict=True)
            ]
            rows.append(Row([f"{study.layout.columns[metric]}, {100 * rate:g} %"], cells))
    return markdown.markdown_table(Grid(["metric"], columns, rows))


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    try:
        readme.write_text(fill(readme.read_text("utf-8"), Path(sys.argv[2])), "utf-8")
        for picture in sys.argv[3:]:
            plot(Path(sys.argv[2]), Path(picture))
    except UserError as error:
        sys.exit(str(error))
