"""Names of the tasks and groups of the installed lm-eval, and the files that define them.

lm-eval's own index parses 14,000 YAML files, which takes 10 to 15 seconds. Only the few lines that
name a task are read here, and neither lm-eval nor torch is imported.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

from flrc.core.extras import check_installed
from flrc.errors import UserError

TASK, GROUP, TAG, PYTHON = "task", "group", "tag", "class"
"""Kinds of names: a task, a group with subtasks, a tag of several tasks, a task in Python."""

_LINE = re.compile(r"""^["']?(task|group|tag|class|include)["']?[ \t]*:(.*)$""", re.MULTILINE)
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
_NOT_SEARCHED = ("__pycache__", ".ipynb_checkpoints")


@dataclass
class Entry:
    """What one name stands for.

    Attributes:
        kind: One of :data:`TASK`, :data:`GROUP`, :data:`TAG`, :data:`PYTHON`.
        file: The YAML file that defines it; None for a tag.
        tasks: Names of the tasks that carry it, if it is a tag.
    """

    kind: str
    file: Path | None = None
    tasks: set[str] = field(default_factory=set)


def tasks_folder() -> Path:
    """The folder of the installed lm-eval's task files.

    Raises:
        UserError: If lm-eval is not installed.
    """
    check_installed("evaluation=[zeroshot]", ["lm_eval"])
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks"


@cache
def index() -> Mapping[str, Entry]:
    """Every name, as lm-eval's own index has it; takes about a second."""
    entries: dict[str, Entry] = {}
    shared: dict[Path, dict[str, list[str]]] = {}
    for file in sorted(_files(tasks_folder()), key=lambda path: path.as_posix()):
        lines = _read(file, shared)
        kind = next((kind for kind in (PYTHON, GROUP, TASK) if kind in lines), None)
        name = next(iter(lines.get(GROUP if kind == GROUP else TASK, [])), "")
        if kind is None or not name or name in entries:  # as in lm-eval, the first file counts
            continue
        entries[name] = Entry(kind, file)
        if kind != GROUP:
            for tag in lines.get(TAG, []):
                entries.setdefault(tag, Entry(TAG)).tasks.add(name)
    return entries


def find_name(setting: str, name: str) -> Entry:
    """What a name stands for.

    Raises:
        UserError: If the installed lm-eval does not have it; names the nearest.
    """
    entries = index()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1, cutoff=0.6)
        raise UserError(
            f"{setting} has no option {name!r}",
            given=name,
            allowed=f"any task or group of lm-eval {version('lm_eval')}"
            + (f"; the nearest is {close[0]}" if close else ""),
            fix=f"{setting}=[{close[0]}]" if close else "`lm-eval ls tasks` lists all of them",
        )
    return entries[name]


def _files(folder: Path) -> Iterator[Path]:
    for place, below, files in os.walk(folder):
        below[:] = [name for name in below if name not in _NOT_SEARCHED]
        yield from (Path(place, name) for name in files if name.endswith(".yaml"))


def _read(file: Path, shared: dict[Path, dict[str, list[str]]]) -> dict[str, list[str]]:
    """The naming lines of a file, over those of the files that it includes."""
    text = file.read_text(encoding="utf-8")
    own: dict[str, list[str]] = {}
    for match in _LINE.finditer(text):
        own[match[1]] = list(_values(match[2], text[match.end() + 1 :]))
    merged: dict[str, list[str]] = {}
    for included in own.pop("include", []):
        path = Path(os.path.normpath(file.parent / included))
        if path not in shared:
            shared[path] = _read(path, shared)
        merged |= shared[path]
    return merged | own


def _values(line: str, following: str) -> Iterator[str]:
    """One word, or a list on the same line or on the lines that follow."""
    value = _plain(line)
    if value.startswith("["):
        yield from (word for part in value.strip("[]").split(",") if (word := _plain(part)))
    elif value:
        yield value
    else:
        for below in following.splitlines():
            match = _ITEM.fullmatch(below)
            if match is None:
                if below.strip():
                    return
                continue
            if word := _plain(match[1]):
                yield word


def _plain(text: str) -> str:
    text = text.strip()
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
        return text[1:end]
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
