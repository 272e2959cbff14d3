"""Which command made the weights of a run's checkpoint, where another one measured it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MADE_BY = "made_by"
"""Key of a record's ``meta``: that command, if it is not its ``command``."""


def maker(meta: Mapping[str, Any]) -> str:
    """The command that made the weights that ``meta`` tells of."""
    return str(meta.get(MADE_BY) or meta.get("command"))


def note_maker(meta: dict[str, Any], command: str) -> None:
    """Note in ``meta`` that this command made the weights."""
    meta.pop(MADE_BY, None)
    if command != meta.get("command"):
        meta[MADE_BY] = command
