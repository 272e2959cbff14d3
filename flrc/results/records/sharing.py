"""A record without what concerns only the machine that made it."""

from __future__ import annotations

import re
from typing import Any

from flrc.results.records.checkpoint_places import without_places
from flrc.results.records.record import Record

_PATH = re.compile(r"""(?<![\w:.~/\\])(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^\s'",;\])]*""")
"""An absolute path, or one that starts at the home or current folder; not a URL or ``owner/name``.
"""


def shareable(record: Record) -> Record:
    """A copy in which only the last part of every path is left, without folders of this machine."""
    values = _without_paths(record.to_json())
    config = values["run"].get("config")
    if isinstance(config, dict):
        config.pop("paths", None)
        config.pop("tracker", None)
    values["meta"] = without_places(values["meta"])
    return Record.from_json(values)


def without_paths(text: str) -> str:
    """A text in which every path is replaced by its last part."""
    return _PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], text)


def _without_paths(value: Any) -> Any:
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, dict):
        return {key: _without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(entry) for entry in value]
    return value
