"""Checks the rows of every data source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.data.dataset_catalog import DatasetSpec


def check_row(place: str, row: Mapping[str, Any], spec: DatasetSpec) -> None:
    """Check that every required column has a value, and that text columns hold strings.

    Args:
        place: File and line, or data set and row, for errors.
        row: The values by column.
        spec: The data set.

    Raises:
        UserError: If a column is missing or null, or a text column holds another type.
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
                f"{place} has no text in column {column}",
                given=f"{column}: {json.dumps(row[column], default=str)[:80]}",
                allowed="a string",
            )
