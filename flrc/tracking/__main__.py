"""``python -m flrc.tracking publish RUNS``: send finished records and studies to W&B."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.core.commands import as_called, description
from flrc.core.error_output import print_error
from flrc.core.extras import check_installed
from flrc.core.shipped import experiments_folder
from flrc.errors import UserError
from flrc.results.records.record import Record
from flrc.results.records.run_key import key_of
from flrc.results.records.store import RunFolder, find_folders
from flrc.results.studies import manifest
from flrc.results.studies.files import write_study_of_runs
from flrc.results.studies.manifest import known_studies, manifest_folder
from flrc.results.studies.study import read_study_of_runs
from flrc.results.tables.layout import TABLE
from flrc.tracking.wandb import MODES, PROJECT, Wandb, ask_again


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, or 1 after a mistake or if something could not be sent."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        return 0 if _publish(options) else 1
    except UserError as error:
        print_error(error)
        return 1


def _publish(options: argparse.Namespace) -> bool:
    """Send what was asked for, print what was sent, and return whether all of it was."""
    if options.scale is not None and options.study is None:
        raise UserError("--scale needs --study", given="--scale", fix="add --study NAME")
    studies = [
        (study, scale)
        for study, scale in known_studies(options.runs)
        if options.study in (None, study) and options.scale in (None, scale)
    ]
    selected = _selected(find_folders(options.runs), options, studies)
    finished = [pair for pair in selected if pair[1].run["status"] == "ok"]
    if not finished:
        raise UserError(
            "no finished record to publish",
            given=f"{options.runs}" + (f", study {options.study}" if options.study else ""),
            allowed=f"{len(selected)} records are there, none with status ok",
            fix=f"{as_called('records')} ls lists what is there",
        )
    check_installed("publishing to W&B", Wandb.NEEDS)
    tracker = Wandb(project=options.project, entity=options.entity, mode=options.mode)
    for runs in {folder.path.resolve().parent.parent for folder, _ in finished}:
        ask_again(runs)
    sent = [folder.path for folder, record in finished if tracker.publish(record, folder.path)]
    skipped = len(selected) - len(finished)
    console = Console(highlight=False)
    console.print(
        f"{len(sent)} of {len(finished)} finished records are published"
        + (f"; {skipped} failed or unfinished ones are not sent" if skipped else "")
    )
    pages: dict[Path, bool] = {}
    for study, scale in studies:
        page = _publish_study(tracker, options, study, scale)
        if page is None:
            console.print(
                f"{study}-{scale} has no page: no {study}/{TABLE} in {options.experiments}, "
                "or no finished run",
                soft_wrap=True,
            )
        else:
            pages[manifest_folder(options.runs, study, scale)] = page
    if pages:
        console.print(f"{sum(pages.values())} of {len(pages)} studies' pages are published")
    for line in tracker.places([*(folder for folder, page in pages.items() if page), *sent]):
        console.print(line, soft_wrap=True, markup=False)
    return len(sent) == len(finished) and all(pages.values())


def _selected(
    known: list[tuple[RunFolder, Record]],
    options: argparse.Namespace,
    studies: list[tuple[str, str]],
) -> list[tuple[RunFolder, Record]]:
    """The records that were asked for.

    Studies share records, and a record names only the study that computed it: if there is a
    ``jobs.json``, it decides.
    """
    if options.study is None:
        return known
    jobs = {
        job.key for which in studies for job in manifest.read(manifest_folder(options.runs, *which))
    }
    return [
        (folder, record)
        for folder, record in known
        if (
            key_of(record) in jobs
            if studies
            else record.run.get("study") == options.study
            and options.scale in (None, record.run.get("config", {}).get("scale"))
        )
    ]


def _publish_study(
    tracker: Wandb, options: argparse.Namespace, name: str, scale: str
) -> bool | None:
    """Render a study from its present records and send it; None if it has nothing to show."""
    try:
        study = read_study_of_runs(options.runs, name, scale, options.experiments)
        if study is None:
            return None
        write_study_of_runs(study, scale, options.runs)
    except UserError as error:
        print_error(error)
        return False
    return tracker.publish_study(study, scale, manifest_folder(options.runs, name, scale))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=as_called("publish").removesuffix(" publish"),
        description=description(__doc__, "publish"),
    )
    commands = parser.add_subparsers(dest="command", required=True)
    publish = commands.add_parser("publish", help="send what is finished; twice changes nothing")
    publish.add_argument("runs", type=Path, help="folder of runs, or of one run")
    publish.add_argument("--study", help="only this study: its runs and its page")
    publish.add_argument("--scale", help="only this scale of the study (default: all)")
    publish.add_argument("--mode", choices=MODES, default="auto", help="default: auto")
    publish.add_argument("--project", default=PROJECT, help="W&B project (default: flrc)")
    publish.add_argument("--entity", help="W&B user or team (default: the key's)")
    publish.add_argument(
        "--experiments",
        type=Path,
        default=experiments_folder(),
        help="folder of the studies' layouts (default: those that come with flrc)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
