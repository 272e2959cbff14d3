"""Names of tables that were split because their runs were measured under different settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flrc.results.records.record import Record
from flrc.results.records.rows import flatten, plain

IN_FILES = 3
"""Settings that a file's name holds; its title holds all."""
DIGEST_SHOWN = 8
"""Digits of a fingerprint in a name."""

Settings = dict[tuple[str, str], str]
"""Measurement and key of a setting -> its value as text."""


@dataclass(frozen=True)
class GroupName:
    """What distinguishes one group of runs from the others.

    Attributes:
        title: For headings: ``length=256, windows=4``; empty if there is only one group.
        suffix: For files: ``-length256-windows4``; empty if there is only one group.
    """

    title: str = ""
    suffix: str = ""

    def of_file(self, name: str) -> str:
        """The name of this group's file: ``table.md`` becomes ``table-length256.md``."""
        stem, dot, ending = name.partition(".")
        return f"{stem}{self.suffix}{dot}{ending}"


def group_names(groups: Sequence[Sequence[Record]]) -> list[GroupName]:
    """The names of groups of runs as :func:`~.columns.settings_groups` makes them.

    A name holds the settings in which its group differs from another one. Groups that these do not
    tell apart (two models with two settings each, for example) are numbered as well.
    """
    if len(groups) < 2:
        return [GroupName() for _ in groups]
    known = [_settings(group) for group in groups]
    differing = {place for place in set().union(*known) if _differs(place, known)}
    keys = sorted({key for _, key in differing})
    names = [_name(settings, differing, keys) for settings in known]
    return [
        name if _apart(name, names) else _numbered(name, number)
        for number, name in enumerate(names, start=1)
    ]


def _settings(group: Sequence[Record]) -> Settings:
    settings: Settings = {}
    for record in group:
        for m in record.measurements:
            for key, value in {**flatten(m.settings), "unit": m.unit}.items():
                settings.setdefault((m.name, key), _text(value))
    return settings


def _differs(place: tuple[str, str], known: Sequence[Settings]) -> bool:
    """Whether the groups that have this measurement differ in this setting, or some lack it."""
    measured = [settings for settings in known if (place[0], "unit") in settings]
    return len({settings.get(place) for settings in measured}) > 1


def _name(settings: Settings, differing: set[tuple[str, str]], keys: Sequence[str]) -> GroupName:
    values = {
        key: sorted({settings[place] for place in differing & settings.keys() if place[1] == key})
        for key in keys
    }
    held = {key: ",".join(texts) for key, texts in values.items() if texts}
    title = ", ".join(f"{key}={text}" for key, text in held.items())
    short = [f"{key.rpartition('.')[2]}{text}" for key, text in list(held.items())[:IN_FILES]]
    return GroupName(title, "".join(f"-{_safe(part)}" for part in short))


def _apart(name: GroupName, names: Sequence[GroupName]) -> bool:
    return bool(name.suffix) and [other.suffix for other in names].count(name.suffix) == 1


def _numbered(name: GroupName, number: int) -> GroupName:
    title = f"settings {number}" + (f": {name.title}" if name.title else "")
    return GroupName(title, f"{name.suffix}-{number}")


def _text(value: object) -> str:
    text = plain(value)
    digest = re.fullmatch(r"(sha256:)?([0-9a-f]{32,})", text)
    return digest[2][:DIGEST_SHOWN] if digest else text


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_")[:40]
