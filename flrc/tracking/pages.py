"""The content of a W&B page as plain values, independent of W&B."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flrc.core import jsonfile
from flrc.results.records.rows import Rows


@dataclass(frozen=True)
class Page:
    """One W&B run.

    Attributes:
        id: Id of the W&B run; the same content under the same id is the same page.
        group: Study that computed it.
        job_type: The method's preset, or ``study``.
        tags: ``what:name``.
        notes: Text of the page's overview.
        pictures: PNG files, by key; so are the tables.
    """

    id: str
    name: str
    group: str | None
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    summary: dict[str, Any]
    tables: dict[str, Rows] = field(default_factory=dict)
    notes: str = ""
    pictures: dict[str, Path] = field(default_factory=dict)

    def digest(self) -> str:
        """Digest of everything on the page; of a picture its bytes, not its path."""
        values = vars(self) | {"tables": {k: [t.titles, t.rows] for k, t in self.tables.items()}}
        values["pictures"] = {
            key: hashlib.sha256(path.read_bytes()).hexdigest()
            for key, path in self.pictures.items()
        }
        return jsonfile.digest(values, 64)


def cell(value: Any) -> Any:
    """A value as W&B's tables accept it; anything nested becomes JSON text."""
    plain = value is None or isinstance(value, int | float | str)
    return value if plain else str(jsonfile.encode(value))


def tag(kind: str, name: str) -> str:
    """``kind:name``; W&B takes tags of 1 to 64 characters."""
    return f"{kind}:{name}"[:64]
