"""The commands, and how messages name them: as the user can call them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from flrc.core.shipped import in_checkout

CONSOLE = "flrc"
"""Name of the console command."""
MODULES = {
    "chat": "flrc.chat",
    "export": "flrc.export",
    "records": "flrc.records",
    "report": "flrc.reporting",
    "publish": "flrc.tracking publish",
}
"""Command -> the module that ``python -m`` runs, with its first argument if there is one."""


def description(document: str | None, command: str = "") -> str:
    """A module's docstring as ``--help`` shows it: plain text, with the command as it is called."""
    text = (document or "").replace("``", "")
    return text.replace(f"python -m {MODULES[command]}", as_called(command)) if command else text


def as_called(command: str = "", *, here: bool = True) -> str:
    """``flrc chat``, or ``python -m flrc.chat`` in a checkout unless ``flrc`` was called.

    Args:
        command: One of ``MODULES``; empty for the command that runs jobs: ``flrc``, or
            ``python run.py``.
        here: Whether it is to be called from this shell, where ``python`` may be another one; else
            it is written down for any machine.
    """
    if Path(sys.argv[0]).stem == CONSOLE:
        program = _in_shell(CONSOLE, sys.argv[0]) if here else CONSOLE
        return f"{program} {command}".strip()
    if not in_checkout():
        return f"{CONSOLE} {command}".strip()
    program = python() if here else "python"
    return f"{program} -m {MODULES[command]}" if command else f"{program} run.py"


def python() -> str:
    """This interpreter as the shell can call it: ``python``, ``.venv/bin/python`` or its path."""
    return _in_shell("python", sys.executable)


def _in_shell(name: str, path: str) -> str:
    """``name`` if the shell finds this program by it, else its path, from here if it is below."""
    found, own = shutil.which(name), os.path.abspath(path)
    if not os.path.isfile(own):
        return name
    # Links are not resolved: a virtual environment's interpreter links to one outside of it.
    if found is not None and os.path.dirname(os.path.abspath(found)) == os.path.dirname(own):
        return name
    return from_here(Path(own))


def from_here(path: Path) -> str:
    """The path from the working directory, if it is below that."""
    here = Path(os.getcwd())
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
