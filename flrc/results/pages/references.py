"""Reference summaries, read from the data when a page is written: records do not have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DATASETS
from flrc.data.folder import Folder
from flrc.data.sample import Sample
from flrc.data.summarization_pairs import read_pairs
from flrc.errors import UserError

NONE: Mapping[str, str] = MappingProxyType({})


class References:
    """References by item id, for exactly the data that a run read."""

    def __init__(self, root: Path | None = None) -> None:
        """Look in the sample data and in ``root``, a folder as ``data=folder`` reads it.

        Raises:
            UserError: If ``root`` is not a folder.
        """
        if root is not None and not root.is_dir():
            raise UserError("the data folder does not exist", given=root, fix="set --data DIR")
        self.sources: Sequence[DataSource] = [Sample()]
        if root is not None:
            self.sources = [*self.sources, Folder(root=str(root))]
        self._found: dict[tuple[str, str, str], Mapping[str, str]] = {}

    def of(self, dataset: str, settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Item id -> reference; empty if no source has data with the run's fingerprint.

        ``dataset`` is its name in measurements. ``settings`` are the evaluation's: ``split``, and
        ``data``, the fingerprint.
        """
        key = (dataset, str(settings.get("split")), str(settings.get("data")))
        if key not in self._found:
            self._found[key] = self._read(*key)
        return self._found[key]

    def _read(self, dataset: str, split: str, fingerprint: str) -> Mapping[str, str]:
        for source in self.sources:
            try:
                for name in (name for name in DATASETS if source.label(name) == dataset):
                    if source.fingerprint(name, split) == fingerprint:
                        return {p.id: p.reference for p in read_pairs(source, name, split)}
            except UserError:
                continue  # this source lacks the data set; the page then has no references
        return NONE
