"""Reads JSON Lines files; errors name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.data.row_checks import check_row
from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.data.dataset_catalog import DatasetSpec


def read_rows(path: Path, spec: DatasetSpec) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file, in order; blank lines are skipped.

    Args:
        path: The file, UTF-8, with or without a byte-order mark.
        spec: The data set: required columns, and which of them hold text.

    Raises:
        UserError: If a line is not a JSON object, lacks a column, has another type in a text
            column, or if the file has no rows.
    """
    rows = list(_rows(path, spec))
    if not rows:
        raise _no_rows(path)
    return rows


def check_first_row(path: Path, spec: DatasetSpec) -> None:
    """Check the first row only, without reading the whole file.

    Raises:
        UserError: As :func:`read_rows` for that row.
    """
    if next(_rows(path, spec), None) is None:
        raise _no_rows(path)


def _no_rows(path: Path) -> UserError:
    return UserError("the data file has no rows", given=path, allowed="one JSON object per line")


def _rows(path: Path, spec: DatasetSpec) -> Iterator[dict[str, Any]]:
    # Not str.splitlines: it also splits at U+2028, which JSON allows inside a string.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for number, line in enumerate(file, start=1):
                line = line.lstrip("\ufeff")  # joined files may each begin with a byte-order mark
                if line.strip():
                    yield _row(f"{path}:{number}", line, spec)
        except UnicodeDecodeError as error:
            raise UserError("the data file is not UTF-8", given=path, allowed=str(error)) from error


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
    check_row(place, row, spec)
    return row
