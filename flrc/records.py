"""``python -m flrc.records``: list, show and compare the records of runs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flrc.core.commands import as_called
from flrc.errors import UserError, nearest
from flrc.results.pages.report import plain_console
from flrc.results.records import show
from flrc.results.records.paired import compare, items_of
from flrc.results.records.record import Record
from flrc.results.records.store import find_folders, find_records, no_records


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
            console.print(show.whole(find(options.id, find_records(options.runs))))
        else:
            folders = find_folders(options.runs)
            records = [record for _, record in folders]
            pair = [find(wanted, records) for wanted in (options.first, options.second)]
            console.print(show.difference(*pair))
            first, second = (
                next(items_of(folder, record) for folder, record in folders if record is chosen)
                for chosen in pair
            )
            if comparisons := compare(first, second):
                names = [str(record.run["id"]) for record in pair]
                console.print(show.paired(comparisons, *names))
    except UserError as error:
        Console(stderr=True).print(str(error), markup=False, style="red")
        return 1
    return 0


def find(run_id: str, records: Sequence[Record]) -> Record:
    """The record whose id is, or starts with, ``run_id``.

    Raises:
        UserError: If there is none, naming the nearest id, or several.
    """
    matches = [record for record in records if str(record.run["id"]).startswith(run_id)]
    exact = [record for record in matches if record.run["id"] == run_id]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise UserError(
            "several runs have an id that starts like this",
            given=run_id,
            allowed=(str(record.run["id"]) for record in matches),
        )
    known = {str(r.run["id"]): f"{r.run['id']} ({r.run['method']})" for r in records}
    match = nearest(run_id, known)
    raise UserError(
        "no run has this id",
        given=run_id,
        allowed=f"one of {len(known)} ids, or the start of one"
        + (f"; nearest: {known[match]}" if match else ""),
        fix=f"{as_called('records')} ls lists them; --runs names another folder",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=as_called("records"), description=__doc__)
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ls = commands.add_parser("ls", parents=[runs], help="one line per run")
    ls.add_argument("folder", type=Path, nargs="?", help="folder of the runs; the same as --runs")
    one = commands.add_parser("show", parents=[runs], help="everything about one run")
    one.add_argument("id", help="the run's id or the start of it")
    two = commands.add_parser("diff", parents=[runs], help="what differs between two runs")
    two.add_argument("first", help="the run's id or the start of it")
    two.add_argument("second", help="the other run's id or the start of it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
