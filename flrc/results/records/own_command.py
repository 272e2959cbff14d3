"""The command that makes one run again, with more asked of it."""

from __future__ import annotations

import shlex

from flrc.core.commands import python
from flrc.results.records.record import Record


def own_command(record: Record, *added: str) -> str:
    """The command of this run alone, with further overrides.

    A record says by which overrides its job was made. One that does not, of an earlier version or
    made from Python, has only the whole command, perhaps a sweep's.
    """
    command = str(record.meta.get("command") or "run.py")
    if "(" in command.partition(" ")[0]:
        return f"{command}, with the overrides {', '.join(added)}"
    program, *words = command.split(" ")
    if words[:1] == ["compress"]:
        return f"{command}  # with a new folder after -o, unless that one has the model"
    overrides = record.meta.get("overrides")
    if overrides is not None:
        flags = [word for word in words if word.startswith("--config-")]
        keys = tuple(f"{override.partition('=')[0]}=" for override in added)
        kept = [override for override in overrides if not override.startswith(keys)]
        words = [shlex.quote(word) for word in (*flags, *kept)]
    start = f"{python()} {program}" if program.endswith(".py") else program
    return " ".join([start, *words, *added])
