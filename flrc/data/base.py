"""Where rows of text, dialogues and questions come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from flrc.core.component import Component


@dataclass
class DataSource(Component, ABC):
    """Reads data sets by their benchmark name (``wikitext2``, ``dialogsum``, ``arc_easy`` ...).

    The names, columns and splits that exist are listed in :mod:`flrc.data.catalog`.
    """

    @abstractmethod
    def rows(self, dataset: str, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in order, each with at least the catalogue's columns.

        Raises:
            UserError: If the data set, the split or a column is missing (names file and line).
        """

    @abstractmethod
    def label(self, dataset: str) -> str:
        """The name that measurements carry; never a benchmark's name for sample data."""

    @abstractmethod
    def fingerprint(self, dataset: str, split: str) -> str:
        """Hexadecimal digest of the content of a split (or of its published revision)."""

    @abstractmethod
    def check_available(self, dataset: str, split: str) -> None:
        """Raise UserError, with the command that provides it, if data is not there."""
