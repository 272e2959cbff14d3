"""Data sources that read JSON Lines files; errors name file and line."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.core.digests import file_digest
from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DatasetSpec, find
from flrc.errors import UserError


@dataclass
class JsonLinesSource(DataSource):
    """Reads one file per split, with one JSON object per line."""

    @abstractmethod
    def path(self, dataset: str | DatasetSpec, split: str) -> Path:
        """The file of a split; raises UserError if it does not exist."""

    def rows(self, dataset: str | DatasetSpec, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in order; blank lines are skipped."""
        return list(_read(self.path(dataset, split), find(dataset)))

    def fingerprint(self, dataset: str | DatasetSpec, split: str) -> str:
        """Hexadecimal SHA-256 of the file."""
        return file_digest(self.path(dataset, split))

    def check_available(self, dataset: str | DatasetSpec, split: str) -> None:
        """Raise UserError if the file does not exist or its first row is invalid."""
        next(_read(self.path(dataset, split), find(dataset)))


def _read(path: Path, spec: DatasetSpec) -> Iterator[dict[str, Any]]:
    empty = True
    # Not str.splitlines: it also splits at U+2028, which JSON allows inside a string.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, start=1):
                line = line.lstrip("\ufeff")  # joined files may each begin with a byte-order mark
                if line.strip():
                    empty = False
                    yield _row(f"{path}:{number}", line, spec)
        except UnicodeDecodeError as error:
            raise UserError("the data file is not UTF-8", given=path, allowed=str(error)) from error
    if empty:
        raise UserError("the data file has no rows", given=path, allowed="one JSON object per line")


def _row(place: str, line: str, spec: DatasetSpec) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if "\\ud" in line.lower():  # an escape may be a lone surrogate
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # also a huge number or endless nesting
        raise UserError(f"invalid JSON at {place}: {error}", given=line.strip()[:80]) from error
    if not isinstance(row, dict):
        raise UserError(
            f"not a JSON object at {place}",
            given=line.strip()[:80],
            allowed='{"column": value, ...}',
        )
    spec.check_row(place, row)
    return row
