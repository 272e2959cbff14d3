"""Data sets as JSON Lines files in a folder: ``<root>/<dataset>/<split>.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.data.base import DataSource
from flrc.data.catalog import find
from flrc.data.jsonl import check_first_row, digest, read_rows
from flrc.errors import UserError


@dataclass
class Folder(DataSource):
    """Reads ``<root>/<dataset>/<split>.jsonl``: one JSON object a row, columns as published.

    Attributes:
        root: The folder.
    """

    name: str = "folder"
    root: str = ""

    def check(self) -> None:
        """Raise UserError if no root is given."""
        if not self.root:
            raise UserError("data=folder needs a folder", fix="data=folder data.root=DIR")

    def rows(self, dataset: str, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in the file's order.

        Raises:
            UserError: If folder, file or a column is missing, or a line is no JSON object.
        """
        return read_rows(self._path(dataset, split), find(dataset))

    def label(self, dataset: str) -> str:
        """The benchmark's name: the folder is taken to hold what its name says."""
        return find(dataset).name

    def fingerprint(self, dataset: str, split: str) -> str:
        """Hexadecimal sha256 of the file."""
        return digest(self._path(dataset, split))

    def check_available(self, dataset: str, split: str) -> None:
        """Raise UserError if the file is not there or its first row lacks a column."""
        check_first_row(self._path(dataset, split), find(dataset))

    def _path(self, dataset: str, split: str) -> Path:
        find(dataset, split)
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise UserError("the data folder does not exist", given=root, fix="set data.root=DIR")
        path = root / dataset / f"{split}.jsonl"
        if not path.is_file():
            there = sorted(file.stem for file in path.parent.glob("*.jsonl"))
            raise UserError(
                f"{dataset} {split} is not in the data folder",
                given=path,
                allowed=f"splits that are there: {', '.join(there) or 'none'}",
                fix=f"write that file, with columns {', '.join(find(dataset).columns)}",
            )
        return path
