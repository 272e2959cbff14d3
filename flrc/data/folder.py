"""Data sets as JSON Lines files in a folder: ``<root>/<dataset>/<split>.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.core.digests import file_digest
from flrc.data.base import DataSource
from flrc.data.dataset_catalog import find
from flrc.data.jsonl import check_first_row, read_rows
from flrc.errors import UserError


@dataclass
class Folder(DataSource):
    """Reads ``<root>/<dataset>/<split>.jsonl``: one JSON object per line, columns as published.

    Attributes:
        root: The folder.
    """

    name: str = "folder"
    root: str = ""

    def check(self) -> None:
        """Raise UserError unless a folder is given."""
        if not self.root:
            raise UserError("data=folder needs a folder", fix="data=folder data.root=DIR")

    def rows(self, dataset: str, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in the file's order.

        Raises:
            UserError: If the folder, the file or a column is missing, or a line is not a JSON
                object.
        """
        return read_rows(self._path(dataset, split), find(dataset))

    def label(self, dataset: str) -> str:
        """The benchmark's name: the folder is assumed to hold that benchmark's data."""
        return find(dataset).name

    def fingerprint(self, dataset: str, split: str) -> str:
        """Hexadecimal SHA-256 of the file."""
        return file_digest(self._path(dataset, split))

    def check_available(self, dataset: str, split: str) -> None:
        """Raise UserError if the file does not exist or its first row lacks a column."""
        check_first_row(self._path(dataset, split), find(dataset))

    def _path(self, dataset: str, split: str) -> Path:
        find(dataset, split)
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise UserError("the data folder does not exist", given=root, fix="set data.root=DIR")
        path = root / dataset / f"{split}.jsonl"
        if not path.is_file():
            existing = sorted(file.stem for file in path.parent.glob("*.jsonl"))
            raise UserError(
                f"{dataset} {split} is not in the data folder",
                given=path,
                allowed=f"the splits in the folder: {', '.join(existing) or 'none'}",
                fix=f"create that file, with the columns {', '.join(find(dataset).columns)}",
            )
        return path
