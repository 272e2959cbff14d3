"""What a data source is: rows of text, dialogues and questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from flrc.core.component import Component
from flrc.data.dataset_catalog import DatasetSpec, find


@dataclass
class DataSource(Component, ABC):
    """Reads data sets by their benchmark names (``wikitext2``, ``dialogsum``, ``arc_easy`` ...).

    All names, columns and splits are listed in :mod:`flrc.data.dataset_catalog`. A data set that is
    not listed there is described by a :class:`~flrc.data.dataset_catalog.DatasetSpec` of its own.
    """

    @abstractmethod
    def rows(self, dataset: str | DatasetSpec, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in order, each with at least the columns in the catalog.

        Raises:
            UserError: If the data set, the split, all rows or a column are missing, or a value has
                the wrong type; names file and line.
        """

    def label(self, dataset: str | DatasetSpec) -> str:
        """The name in measurements: the benchmark's name, except for sample data."""
        return find(dataset).name

    @abstractmethod
    def fingerprint(self, dataset: str | DatasetSpec, split: str) -> str:
        """Hexadecimal digest of the rows of a split."""

    @abstractmethod
    def check_available(self, dataset: str | DatasetSpec, split: str) -> None:
        """Raise UserError, with the command that provides the data, if it is not available."""
