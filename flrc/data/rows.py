"""What a row must hold, wherever it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.data.catalog import DatasetSpec


def check_row(place: str, row: Mapping[str, Any], spec: DatasetSpec) -> None:
    """Every column of the data set has a value, and text where text should be.

    Args:
        place: File and line, or data set and row, for errors.
        row: By column; it may have more.
        spec: The data set.

    Raises:
        UserError: If a column is missing, or something else stands where text should.
    """
    missing = [column for column in spec.columns if row.get(column) is None]
    if missing:
        raise UserError(
            f"{place} lacks {', '.join(missing)}",
            given=f"columns {', '.join(row)}",
            allowed=f"columns {', '.join(spec.columns)}, each with a value",
        )
    for column in spec.texts:
        if not isinstance(row[column], str):
            raise UserError(
                f"{place} has no text as {column}",
                given=f"{column}: {json.dumps(row[column], default=str)[:80]}",
                allowed="a string",
            )
