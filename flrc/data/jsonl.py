"""Rows and digests of JSON Lines files, with errors that name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.core.digests import file_digest
from flrc.data.rows import check_row
from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.data.catalog import DatasetSpec

digest = file_digest
"""Of a data file's content."""


def read_rows(path: Path, spec: DatasetSpec) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file, in order; blank lines are passed over.

    Args:
        path: The file, UTF-8, with or without a byte-order mark.
        spec: Says which columns every row must have, with a value, and which hold text.

    Raises:
        UserError: If a line is no JSON object, lacks a column, has something else where text should
            be, or the file has no row.
    """
    rows = list(_rows(path, spec))
    if not rows:
        raise UserError("the data file has no rows", given=path, allowed="one JSON object a line")
    return rows


def check_first_row(path: Path, spec: DatasetSpec) -> None:
    """Check the first row only: the cheap part of :func:`read_rows`.

    Raises:
        UserError: As :func:`read_rows` would for that row.
    """
    if next(_rows(path, spec), None) is None:
        raise UserError("the data file has no rows", given=path, allowed="one JSON object a line")


def _rows(path: Path, spec: DatasetSpec) -> Iterator[dict[str, Any]]:
    # Not str.splitlines: it also splits at U+2028, which JSON allows inside a string.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, start=1):
                line = line.lstrip("\ufeff")  # of files that were joined, each has its mark
                if line.strip():
                    yield _row(f"{path}:{number}", line, spec)
        except UnicodeDecodeError as error:
            raise UserError("the data file is not UTF-8", given=path, allowed=str(error)) from error


def _row(place: str, line: str, spec: DatasetSpec) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if "\\ud" in line.lower():  # an escape may be half of a character
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # a number or a nesting without end, too
        raise UserError(f"invalid JSON at {place}: {error}", given=line.strip()[:80]) from error
    if not isinstance(row, dict):
        raise UserError(
            f"no JSON object at {place}", given=line.strip()[:80], allowed='{"column": value, ...}'
        )
    check_row(place, row, spec)
    return row
