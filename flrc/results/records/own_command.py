"""The command that makes one run again, with more asked of it."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
from pathlib import Path

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
        return f"{program} {shlex.join(_with_new_folder(shlex.split(command)[1:]))}"
    overrides = record.meta.get("overrides")
    if overrides is not None:
        flags = [word for word in words if word.startswith("--config-")]
        keys = tuple(f"{override.partition('=')[0]}=" for override in added)
        kept = [override for override in overrides if not override.startswith(keys)]
        words = [shlex.quote(word) for word in (*flags, *kept)]
    start = f"{python()} {program}" if program.endswith(".py") else program
    return " ".join([start, *words, *added])


def _with_new_folder(words: list[str]) -> list[str]:
    """The words of a command ``compress``, with a folder that it accepts: its own, or a new one."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output", type=Path, default=Path("model"))
    given, others = parser.parse_known_args(words)
    numbers = itertools.count(2)
    folder = given.output
    while os.path.lexists(folder):
        folder = given.output.with_name(f"{given.output.name}-{next(numbers)}")
    return [*others, "-o", str(folder)]
