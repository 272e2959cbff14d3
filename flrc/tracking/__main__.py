"""``python -m flrc.tracking publish RUNS``: send finished records to W&B."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.errors import UserError
from flrc.records.store import find_folders
from flrc.tracking.wandb import MODES, Wandb


class _Warnings(logging.Handler):
    """Counts warnings, which are how a tracker says that it could not publish."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0; 1 after a user's mistake or if a record could not be sent.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    warnings = _Warnings()
    logging.getLogger("flrc.tracking.wandb").addHandler(warnings)
    try:
        found = [
            (folder, record)
            for folder, record in find_folders(options.runs)
            if options.study is None or record.run.get("study") == options.study
        ]
        finished = [pair for pair in found if pair[1].run["status"] == "ok"]
        if not finished:
            raise UserError(
                "no finished record to publish",
                given=f"{options.runs}" + (f", study {options.study}" if options.study else ""),
                allowed=f"{len(found)} records are there, none with status ok",
                fix="python -m flrc.records ls lists what is there",
            )
        tracker = Wandb(project=options.project, entity=options.entity, mode=options.mode)
        for folder, record in finished:
            tracker.publish(record, folder.path)
    except UserError as error:
        Console(stderr=True).print(str(error), markup=False, style="red")
        return 1
    finally:
        logging.getLogger("flrc.tracking.wandb").removeHandler(warnings)
    sent = len(finished) - warnings.count
    skipped = len(found) - len(finished)
    Console(highlight=False).print(
        f"{sent} of {len(finished)} finished records are published"
        + (f"; {skipped} failed or unfinished ones are not sent" if skipped else "")
    )
    return 1 if warnings.count else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flrc.tracking", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    publish = commands.add_parser("publish", help="send finished records; twice changes nothing")
    publish.add_argument("runs", type=Path, help="folder of runs, or of one run")
    publish.add_argument("--study", help="only the runs of this study")
    publish.add_argument("--mode", choices=MODES, default="auto", help="default: auto")
    publish.add_argument("--project", default="flrc", help="W&B project (default: flrc)")
    publish.add_argument("--entity", help="W&B user or team (default: the key's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
