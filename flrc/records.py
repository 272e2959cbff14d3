"""``python -m flrc.records``: list, show and compare the records of runs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flrc.core.commands import as_called, description
from flrc.core.error_output import print_error
from flrc.errors import UserError
from flrc.results.pages.report import plain_console
from flrc.results.records import show
from flrc.results.records.lookup import find_run
from flrc.results.records.paired import compare, items_of
from flrc.results.records.store import find_records, no_records


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 after a user's mistake."""
    options = _parser().parse_args(arguments)
    console = console or plain_console()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        if options.command == "ls":
            folder = options.folder or options.runs
            records = find_records(folder)
            if not records:
                raise no_records(folder)
            console.print(show.listing(records, datetime.now(UTC)))
        elif options.command == "show":
            console.print(show.whole(find_run(options.id, options.runs)[1]))
        else:
            pair = [find_run(wanted, options.runs) for wanted in (options.first, options.second)]
            console.print(show.difference(*(record for _, record in pair)))
            first, second = (items_of(folder, record) for folder, record in pair)
            if comparisons := compare(first, second):
                names = show.names_of(*(record for _, record in pair))
                console.print(show.paired(comparisons, *names))
    except UserError as error:
        return print_error(error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("records"), description=description(__doc__, "records")
    )
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", parents=[runs], help="one line per run")
    ls.add_argument("folder", type=Path, nargs="?", help="folder of the runs; the same as --runs")
    one = commands.add_parser("show", parents=[runs], help="everything about one run")
    wanted = "the run's id or the start of it, its folder, or a checkpoint's folder"
    one.add_argument("id", help=wanted)
    two = commands.add_parser("diff", parents=[runs], help="what differs between two runs")
    two.add_argument("first", help=wanted)
    two.add_argument("second", help="the other run's")
    return parser


if __name__ == "__main__":
    sys.exit(main())
