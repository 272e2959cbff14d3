"""``python scripts/front_page.py README.md experiments``: the tables of the front page."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from flrc.errors import UserError
from flrc.results.studies.study import Study, read_study
from flrc.results.tables import markdown
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import MISSING, Cell, Grid, Row, shown_mean
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
    except UserError as error:
        sys.exit(str(error))
