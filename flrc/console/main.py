"""``flrc COMMAND ...`` runs a command; ``flrc method=flrc rate=0.2`` does what ``run.py`` does."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence

from flrc.config import RunConfig
from flrc.core.error_output import print_error
from flrc.core.network import offline_by_default
from flrc.core.shipped import conf_folder
from flrc.errors import UserError, nearest
from flrc.sweeps import command_line
from flrc.sweeps.hydra_main import hydra_main

MAINS = {
    "compress": "flrc.console.compress",
    "chat": "flrc.chat",
    "export": "flrc.export",
    "records": "flrc.records",
    "report": "flrc.reporting",
    "publish": "flrc.tracking.__main__",
}
"""Command -> the module whose ``main`` takes its arguments; imported when it is called."""
WITH_SUBCOMMAND = ("publish",)
"""Commands whose module expects the command itself as the first argument."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console command; returns its exit code. Without arguments it prints the help."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    command, rest = words[0], words[1:]
    try:
        if command in MAINS:
            offline_by_default()
            module = importlib.import_module(MAINS[command])
            code: int = module.main(words if command in WITH_SUBCOMMAND else rest)
            return code
        if command.isalpha() and command not in _keys() and nearest(command, MAINS) is not None:
            raise UserError("flrc has no such command", given=command, allowed=MAINS)
        conf = str(conf_folder())
    except UserError as error:
        return print_error(error)
    return command_line.sweep(hydra_main(conf), conf, words)


def _keys() -> set[str]:
    """Groups and keys of a run; without a value, one of them is not a mistyped command."""
    return {field.name for field in dataclasses.fields(RunConfig)}
