"""What a command ends with: each run's id and folder, to be copied, and what can be done next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flrc.core.commands import as_called, from_here
from flrc.results.records.checkpoint_places import checkpoint_of
from flrc.results.records.lookup import RUNS, shortest_name
from flrc.results.records.own_command import own_command
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder, requested_rate

Run = tuple[RunFolder, Record]

MOST_LINES = 12
"""Runs that are listed one by one; more of them would push the table off the screen."""


def print_end(runs: Sequence[Run], root: Path, console: Console) -> None:
    """Print what the command's runs are, and the next commands; nothing if none has finished."""
    _print_lines("runs:", run_lines(runs, root), console)
    _print_lines("next:", next_lines(runs, root), console)


def print_rendered(files: Sequence[Path], console: Console) -> None:
    """Print the names of the rendered files behind the folder that holds them."""
    for folder in dict.fromkeys(file.parent for file in files):
        names = ", ".join(file.name for file in files if file.parent == folder)
        line = f"rendered in {from_here(folder)}: {names}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def run_lines(runs: Sequence[Run], root: Path) -> list[str]:
    """A line for each finished run: its id, its folder, its method and rate.

    Many runs have two lines: how many there are in which folder, and what lists them.
    """
    finished = _finished(runs)
    if len(finished) > MOST_LINES:
        place = from_here(root)
        return [f"{len(finished)} in {place}", f"{as_called('records')} ls {shlex.quote(place)}"]
    lines = []
    for folder, record in finished:
        method = str(record.run["method"])
        rate = "" if method == "dense" else f" at rate {requested_rate(record):g}"
        lines.append(f"{record.run['id']}  {from_here(folder.path)}  ({method}{rate})")
    return lines


def next_lines(runs: Sequence[Run], root: Path) -> list[str]:
    """The next commands: chat with, or export, a saved model, or save one; look at a record.

    Args:
        runs: Those of one command.
        root: The folder of runs.
    """
    finished = _finished(runs)
    if not finished:
        return []
    place = from_here(root)
    where = "" if place == str(RUNS) else f" --runs {shlex.quote(place)}"
    compressed = [run for run in finished if run[1].run["method"] != "dense"]
    saved = [run for run in compressed if checkpoint_of(*run) is not None]
    lines = []
    if saved:
        name = _name(saved[-1], root)
        lines.append(f"{as_called('chat')} {name}{where}")
        lines.append(f"{as_called('export')} {name} FOLDER{where}")
    elif compressed:
        command = own_command(compressed[-1][1], "model.save=true")
        lines.append(f"{command}  # saves the model, for chat and export")
    lines.append(f"{as_called('records')} show {_name(finished[-1], root)}{where}")
    if len(finished) > 1:
        lines.append(f"{as_called('report')} {shlex.quote(place)}")
    return lines


def _print_lines(title: str, lines: Sequence[str], console: Console) -> None:
    """A title, and lines that can be copied: never wrapped, without markup."""
    if lines:
        console.print(title, highlight=False)
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, markup=False, highlight=False)


def _name(run: Run, root: Path) -> str:
    """By what the commands find the run."""
    folder, record = run
    name = shortest_name(folder, record, root)
    return name if name == record.run["id"] else shlex.quote(from_here(folder.path))


def _finished(runs: Sequence[Run]) -> list[Run]:
    return [(folder, record) for folder, record in runs if record.run["status"] == "ok"]
