"""Data sets as JSON Lines files in a folder: ``<root>/<dataset>/<split>.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flrc.data.dataset_catalog import DatasetSpec, find
from flrc.data.jsonl import JsonLinesSource
from flrc.errors import UserError


@dataclass
class Folder(JsonLinesSource):
    """Reads ``<root>/<dataset>/<split>.jsonl``, with columns as published.

    The folder is assumed to hold the data of the benchmarks, so measurements carry their names.

    Attributes:
        root: The folder; required, as in ``data.root=DIR``.
    """

    name: str = "folder"
    root: str = ""

    def check(self) -> None:
        """Raise UserError unless a folder is given."""
        if not self.root:
            raise UserError("data=folder needs a folder", fix="data=folder data.root=DIR")

    def path(self, dataset: str | DatasetSpec, split: str) -> Path:
        """The file of a split; raises UserError if the folder or the file does not exist."""
        spec = find(dataset, split)
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise UserError(
                "the data folder does not exist",
                given=f"data.root={self.root}",
                allowed="a folder with DATASET/SPLIT.jsonl",
                fix="data.root=DIR, or data=sample for the data that comes with flrc",
            )
        path = root / spec.name / f"{split}.jsonl"
        if not path.is_file():
            existing = sorted(file.stem for file in path.parent.glob("*.jsonl"))
            raise UserError(
                f"{spec.name} {split} is not in the data folder",
                given=path,
                allowed=f"the splits in the folder: {', '.join(existing) or 'none'}",
                fix=f"create that file, with {spec.described_columns()}",
            )
        return path
