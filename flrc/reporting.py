"""``python -m flrc.reporting PATH``: tables, plots and pages of the records below a folder."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.core.commands import as_called, description, from_here
from flrc.core.error_output import print_error
from flrc.core.extras import check_installed
from flrc.errors import UserError
from flrc.results.pages import html, report
from flrc.results.pages.references import References
from flrc.results.plots import stability
from flrc.results.plots.formats import ALL_PICTURES, NEEDS, PICTURES, PLOT
from flrc.results.plots.panel import AXES
from flrc.results.records.run_key import key_of
from flrc.results.records.store import RECORD, find_folders, find_records, no_records
from flrc.results.studies.files import print_study, write_study
from flrc.results.studies.study import read_study, results_of
from flrc.results.tables.labels import presets
from flrc.results.tables.layout import TABLE


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 after a user's mistake."""
    parser = argparse.ArgumentParser(
        prog=as_called("report"), description=description(__doc__, "report")
    )
    parser.add_argument("path", type=Path, help="folder of runs, or of one run")
    parser.add_argument("--output", type=Path, help="where the files go (default: PATH/report)")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=report.FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(report.FORMATS)} (default: all; with --html only that)",
    )
    parser.add_argument(
        "--plot-format",
        nargs="+",
        choices=ALL_PICTURES,
        default=PICTURES,
        metavar="FORMAT",
        help=f"{', '.join(ALL_PICTURES)} (default: png pdf, to look at and for LaTeX)",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="one self-contained page: every study below PATH, its tables, plots and runs",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="with --html: data set folders, to show references beside the replies",
    )
    parser.add_argument(
        "--x", choices=sorted(AXES), default="rate", help="the plot's axis (default: rate)"
    )
    parser.add_argument(
        "--stability",
        type=Path,
        metavar="FILE",
        help="also plot how ranks and scores vary with seed and calibration tokens, numbers as "
        "CSV; the ending says PNG, PDF or SVG",
    )
    parser.add_argument(
        "--scale",
        choices=("small", "paper"),
        default="small",
        help="which results of a study (a PATH with table.yaml) are rendered (default: small)",
    )
    options = parser.parse_args(arguments)
    if options.data and not options.html:
        parser.error("--data is read for --html FILE")
    logging.basicConfig(format="%(levelname)s: %(message)s")
    console = console or report.plain_console()
    try:
        if options.html or options.stability or PLOT in (options.format or ()):
            check_installed("a plot or page", NEEDS)
        if (options.path / TABLE).is_file() and not options.html:
            return _list(_study(options, console), console)
        tables = options.format or not options.html
        records = find_records(options.path) if tables or options.stability else []
        if not records and (tables or options.stability):
            raise no_records(options.path)
        if tables:
            report.print_tables(records, console)
        written: list[Path] = []
        if options.stability:
            written += stability.write_stability(records, options.stability, presets())
        if tables:
            output = options.output or options.path / "report"
            written += report.write_tables(
                records, output, options.format, options.x, options.plot_format
            )
        if options.html:
            written.append(html.write_report(options.path, options.html, References(options.data)))
    except UserError as error:
        return print_error(error)
    return _list(written, console)


def _study(options: argparse.Namespace, console: Console) -> list[Path]:
    """Render ``experiments/<study>`` in its own folder."""
    folder, results = options.path, results_of(options.path, options.scale)
    study = read_study(folder, options.scale)
    assert study is not None, "table.yaml is there"
    if not study.runs:
        raise UserError(
            "no records in this study",
            given=str(results),
            fix=f"make table TABLE={folder.resolve().name}",
        )
    print_study(study, console)
    output = options.output or results.parent
    places = {
        key_of(record): os.path.relpath(run.path / RECORD, output)
        for run, record in find_folders(results)
    }
    return write_study(study, output, places, options.format, options.plot_format)


def _list(written: Sequence[Path], console: Console) -> int:
    for path in written:
        console.print(from_here(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
