"""The commands, and how messages name them: as the user can call them."""

from __future__ import annotations

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


def as_called(command: str = "") -> str:
    """``flrc chat``, or ``python -m flrc.chat`` in a checkout unless ``flrc`` was called.

    Args:
        command: One of ``MODULES``; empty for the command that runs jobs: ``flrc``, or
            ``python run.py``.
    """
    if Path(sys.argv[0]).stem == CONSOLE or not in_checkout():
        return f"{CONSOLE} {command}".strip()
    return f"python -m {MODULES[command]}" if command else "python run.py"
