"""``python -m flrc.studies``: a study's records to and from ``results``, and the page of claims."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.core.commands import description
from flrc.core.error_output import print_error
from flrc.errors import UserError
from flrc.results.studies import claims
from flrc.results.studies.collect import collect, restore
from flrc.results.studies.study import results_of
from flrc.results.tables.layout import TABLE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 after a user's mistake."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, markup=False)
    if options.command == "claims":
        console.print(str(claims.write_claims(options.experiments)))
        return 0
    study, results = options.study.resolve(), results_of(options.study, options.scale)
    try:
        if not (study / TABLE).is_file():
            raise UserError(
                "this folder is not the folder of a study",
                given=str(options.study),
                allowed=sorted(str(path.parent) for path in study.parent.glob(f"*/{TABLE}"))
                or "the folder of a study, such as experiments/table02",
            )
        if options.command == "collect":
            kept = collect(options.runs, study.name, options.scale, results)
            console.print(f"{len(kept)} records are in {results}", soft_wrap=True)
        else:
            touched = restore(results, options.runs)
            console.print(f"{len(touched)} records taken from {results}", soft_wrap=True)
    except UserError as error:
        return print_error(error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flrc.studies", description=description(__doc__)
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("collect", "copy a study's records from the folder of runs to its results"),
        ("restore", "copy a study's results to the folder of runs, so that they count as done"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("study", type=Path, help="experiments/<study>")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="default: runs")
        command.add_argument("--scale", choices=("small", "paper"), default="small")
    command = commands.add_parser("claims", help="write the page of the paper's claims")
    command.add_argument("experiments", type=Path, help="folder of the studies")
    return parser


if __name__ == "__main__":
    sys.exit(main())
