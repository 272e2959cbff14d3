"""The table on the front page, written from the records of a study."""

from __future__ import annotations

from flrc.errors import UserError
from flrc.reporting import markdown
from flrc.reporting.columns import Column
from flrc.reporting.grid import MISSING, Cell, Grid, Row, number
from flrc.studies.cells import value
from flrc.studies.study import Study

BEGIN = (
    "<!-- written from the records by: python -m flrc.studies front README.md experiments/ours -->"
)
END = "<!-- end -->"


def fill(readme: str, study: Study, rates: tuple[float, ...] = (0.2, 0.3)) -> str:
    """The page with what stands between the two marks written anew.

    Raises:
        UserError: If the marks are not there.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UserError("the page has no place for the table", given="README.md", allowed=BEGIN)
    return "\n".join([head + begin, "", *table(study, rates), "", end + tail])


def table(study: Study, rates: tuple[float, ...]) -> list[str]:
    """Methods across, metrics and rates down; the best of a row is bold."""
    known = {str(run.facts["method"]) for run in study.runs}
    methods = [name for name in study.layout.labels["method"] if name in known]
    columns = [Column(m, "", study.layout.label("method", m), "") for m in methods]
    rows = []
    for metric, title in study.layout.columns.items():
        for rate in rates:
            found = [
                value(study.runs, {"method": m, "rate": 0.0 if m == "dense" else rate}, metric)
                for m in methods
            ]
            ranked = [v.mean for m, v in zip(methods, found, strict=True) if v and m != "dense"]
            if not ranked:
                continue
            better = next(v.higher_is_better for v in found if v)
            top = (max if better else min)(ranked)
            cells = [
                Cell(number(v.mean, v.unit), v.mean == top and m != "dense") if v else Cell(MISSING)
                for m, v in zip(methods, found, strict=True)
            ]
            rows.append(Row([f"{title}, {100 * rate:g} %"], cells, False))
    return markdown.lines(Grid(["metric"], columns, rows, []))
